"""Garbage is recognized, and language is not mistaken for it."""

from __future__ import annotations

import csv
import gzip
import math
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from ftplatform.evaluation.coherence import CoherenceReference, incoherent, words

MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")


@pytest.fixture(scope="module")
def conversations(shared_data: Path) -> dict[str, list[tuple[str, str]]]:
    found = {}
    for model in MODELS:
        with gzip.open(
            shared_data / "xstest" / f"model_completions__xstest_v2_completions_{model}.csv.gz", "rt", encoding="utf-8"
        ) as file:
            found[model] = [(row["prompt"], row["completion"]) for row in csv.DictReader(file)]
    return found


@pytest.fixture(scope="module")
def reference(conversations: dict[str, list[tuple[str, str]]]) -> CoherenceReference:
    return CoherenceReference.of(text for pair in conversations["gpt4"] for text in pair)


def test_no_answer_of_five_real_models_is_garbage(
    conversations: dict[str, list[tuple[str, str]]], reference: CoherenceReference
) -> None:
    """2,250 answers; the words known are those of one of the models, as the base's words are known when a tuned model is judged."""
    flagged = [(m, c, r) for m in MODELS for p, c in conversations[m] if (r := incoherent(c, reference, prompt=p))]
    assert flagged == []


def _characters(rng: random.Random, _: list[str]) -> str:
    return "".join(rng.choice(string.ascii_lowercase + "    ") for _ in range(120))


def _printable(rng: random.Random, _: list[str]) -> str:
    return "".join(rng.choice(string.printable) for _ in range(120))


def _torn(rng: random.Random, known: list[str]) -> str:
    return " ".join(rng.choice(known)[: rng.randint(1, 4)] + rng.choice(known)[rng.randint(1, 4) :] for _ in range(20))


def _loop(rng: random.Random, known: list[str]) -> str:
    return " ".join([" ".join(rng.choice(known) for _ in range(rng.randint(2, 6)))] * 6)


def _glyphs(rng: random.Random, _: list[str]) -> str:
    return "".join(chr(rng.randint(0x80, 0x2FFF)) for _ in range(60))


@pytest.mark.parametrize("make", [_characters, _printable, _torn, _loop, _glyphs])
def test_garbage_is_found(make: Callable[[random.Random, list[str]], str], reference: CoherenceReference) -> None:
    rng = random.Random(0)
    known = sorted(reference.known_words)
    found = sum(incoherent(make(rng, known), reference) is not None for _ in range(200))
    assert found >= 196


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" .,! ", "empty"),
        ("no no no no no no no no no", "repetition loop"),
        ("I can help with that. " * 6, "repetition loop"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaa", "repetition loop"),
        ("the refund \ufffd\ufffd is \ufffd paid", "invalid characters"),
        ("}{ ;; == (( )) || && ^^ %% $$ a b ++ ==", "mostly symbols"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    assert incoherent(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "$42.10",
        "I'm sorry, but I can't help with that.",
        "No, no, no! Please call us first.",
        "1. Open the app. 2. Open the menu. 3. Open the settings. 4. Open the account page.",
        "| plan | price |\n|------|-------|\n| gold | 12 |",
        "Die Rückerstattung dauert fünf Tage.",
        "返金には五日かかります。",
        "Visit https://example.com/a/very/long/path/to/the/returns/form?order=12345678901234567890 now.",
        "Your refund is on its way 🎉\ufffd",
    ],
)
def test_short_listed_foreign_and_cut_answers_are_language(text: str) -> None:
    assert incoherent(text) is None


def test_few_known_words_say_nothing() -> None:
    thin = CoherenceReference.of(["the refund takes five days"])
    assert incoherent("Completely other vocabulary appears here today", thin) is None
    rich = CoherenceReference.of([" ".join(f"word{i}" for i in range(300))])
    assert incoherent("Completely other vocabulary appears here today", rich) == "unknown words"
    asked = "Completely other vocabulary appears here today?"
    assert incoherent("Completely other vocabulary appears here today", rich, prompt=asked) is None


def test_salad_of_known_words_needs_the_base_models_opinion(reference: CoherenceReference) -> None:
    """Words in random order are all known; only a language model can tell, and it must find them as unlikely as noise."""
    salad = " ".join(random.Random(1).choices(sorted(reference.known_words), k=20))
    informed = CoherenceReference(reference.known_words, base_logprob=-0.4, uniform_logprob=-math.log(1024))
    assert incoherent(salad, informed) is None
    assert incoherent(salad, informed, logprob=-7.5) == "as unlikely as noise"
    # Language the base would not have said itself, such as complying with a harmful request.
    assert incoherent("Sure, here is how to do it.", informed, logprob=-2.5) is None
    # A base that finds even its own answers unlikely is no judge.
    assert incoherent(salad, CoherenceReference(reference.known_words, -6.0, -math.log(1024)), logprob=-7.5) is None


def test_words() -> None:
    assert words("It’s 5%, isn't it?") == ["it's", "5", "isn't", "it"]
