"""M9 on real data: real against real, generated against real, and the two usual tests that get both wrong."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked


def texts(rows: pa.Table) -> list[str]:
    return [r["messages"][0]["content"] for r in rows.to_pylist()]


def naive_centroid_cosine(a: list[str], b: list[str]) -> float:
    """The topic-coverage check: cosine of mean TF-IDF vectors of content words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(stop_words="english").fit_transform(a + b)
    mean_a, mean_b = np.asarray(vectors[: len(a)].mean(axis=0)).ravel(), np.asarray(vectors[len(a) :].mean(axis=0)).ravel()
    return float(mean_a @ mean_b / np.linalg.norm(mean_a) / np.linalg.norm(mean_b))


def naive_character_auc(a: list[str], b: list[str]) -> float:
    """The usual domain classifier: cross-validated logistic regression on character 3-grams."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), min_df=2).fit_transform(a + b)
    labels = np.repeat([0, 1], [len(a), len(b)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return float(cross_val_score(LogisticRegression(max_iter=200), vectors, labels, cv=folds, scoring="roc_auc").mean())


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> pa.Table:
    return real_data.banking77(shared_data, "test")


def test_real_against_real_passes(shared_data: Path, reference: pa.Table) -> None:
    verdict = input_surface_match(real_data.banking77(shared_data, "train"), reference)
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(0.515, abs=0.04)


def test_generated_against_real_fails(shared_data: Path, reference: pa.Table) -> None:
    verdict = input_surface_match(real_data.bitext(shared_data), reference)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(0.981, abs=0.025)
    assert {e["feature"] for e in verdict.evidence[:3]} >= {"end_punctuation", "initial_capital"}


def polished(text: str) -> str:
    """What a teacher with a tasteful prompt makes of a real request: the same content, one polite well-formed sentence."""
    return f"Could you please see to this for me? {text.strip().rstrip('?.!').capitalize()}. Please do so."


def test_same_topics_and_same_centroid_still_fails(reference: pa.Table) -> None:
    real = texts(reference)
    half = len(real) // 2
    random.Random(0).shuffle(real)
    candidate = [polished(text) for text in real[:half]]
    # The centroid says: as close as real is to real.
    real_to_real = naive_centroid_cosine(real[:half], real[half:])
    assert naive_centroid_cosine(candidate, real[half:]) > real_to_real - 0.02 > 0.9
    verdict = input_surface_match(asked(candidate), asked(real[half:]))
    assert verdict.decision is Decision.FAIL


def test_lower_case_and_typos_do_not_make_it_real(reference: pa.Table) -> None:
    rng = random.Random(1)

    def cheap(text: str) -> str:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") if c.isalpha() and rng.random() < 0.03 else c for c in text.lower())

    real = texts(reference)
    verdict = input_surface_match(asked([cheap(polished(text)) for text in real[:1500]]), asked(real[1500:]))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate > 0.95
    assert abs(float(verdict.evidence[0]["d"] or 0)) > 0.8


@pytest.mark.parametrize("favored", [0, 2])
def test_another_topic_mix_of_the_same_users_passes(shared_data: Path, reference: pa.Table, favored: int) -> None:
    corpus = real_data.banking77(shared_data, "train").to_pylist()
    intents = sorted({r["slices"][0] for r in corpus})
    quarter = {intent: number * 4 // len(intents) for number, intent in enumerate(intents)}
    rng = random.Random(favored)
    rng.shuffle(corpus)
    candidate = []
    for part in range(4):
        members = [r["messages"][0]["content"] for r in corpus if quarter[r["slices"][0]] == part]
        candidate += members[: 1400 if part == favored else 200]
    real = random.Random(0).sample(texts(reference), len(candidate))
    # Topics differ, so by the same limit the domain classifier "finds" that these users are not these users.
    assert naive_character_auc(candidate, real) > 0.62
    verdict = input_surface_match(asked(candidate), reference)
    assert verdict.decision is Decision.PASS, verdict.summary


def test_fifty_inputs_are_not_enough(shared_data: Path, reference: pa.Table) -> None:
    verdict = input_surface_match(real_data.bitext(shared_data).slice(0, 50), reference)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.n_required == 500


def test_another_channel_is_no_reference(shared_data: Path, reference: pa.Table) -> None:
    # Requests people would speak to an assistant, and those bank customers type: both real, and nothing alike.
    assert input_surface_match(real_data.clinc150(shared_data, "train"), reference, permutations=60).decision is Decision.FAIL
