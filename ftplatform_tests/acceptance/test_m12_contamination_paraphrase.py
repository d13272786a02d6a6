"""M12 on real data: GSM8K and HumanEval items rephrased by a language model, among ordinary texts of the same kind."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.contamination.exact import contamination_exact
from ftplatform.contamination.paraphrase import code_search, contamination_paraphrase, paraphrase_pairs
from ftplatform.contamination.paraphrase.texts import train_texts
from ftplatform.contamination.paraphrase.tfidf import Tfidf, nearest
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.contamination import paraphrase_code as code
from ftplatform_tests.unit.contamination.paraphrase_models import encoder

#: Items of the tests that embed; a whole set would take minutes.
ITEMS, FRESH, LEAKED = 120, 300, 24


@cache
def rephrased(data: Path) -> pa.Table:
    """Row i says item i of GSM8K's test part in other words, with the final number as its answer."""
    said = [r["text"] for r in real_data.read_jsonl(data / "llm_decontaminator" / "rephrase__rephrase_gsm8k.jsonl.gz")]
    parts = [text.removeprefix("Question:").partition("\nAnswer:") for text in said]
    return table(row(question.strip(), answer.strip(), surface="synthetic") for question, _, answer in parts)


@cache
def gsm8k(data: Path, part: str) -> pa.Table:
    return real_data.gsm8k(data, part)


@cache
def sample(data: Path) -> tuple[list[int], pa.Table, pa.Table]:
    """Positions of the chosen items, the items, and as many fresh rows of the training part."""
    chosen = random.Random(0)
    at = chosen.sample(range(gsm8k(data, "test").num_rows), ITEMS)
    fresh = chosen.sample(range(gsm8k(data, "train").num_rows), FRESH)
    return at, gsm8k(data, "test").take(at), gsm8k(data, "train").take(fresh)


def questions(rows: pa.Table) -> list[str]:
    return [messages[0]["content"] for messages in rows["messages"].to_pylist()]


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


def found_pairs(pairs: pa.Table) -> set[tuple[str, str]]:
    return set(zip(pairs["eval_row_id"].to_pylist(), pairs["train_row_id"].to_pylist(), strict=True))


def test_the_candidates_hold_the_paraphrase(shared_data: Path) -> None:
    items, train = gsm8k(shared_data, "test"), pa.concat_tables([rephrased(shared_data), gsm8k(shared_data, "train")])
    asked = pl.Series(questions(items))
    index = Tfidf.fit(asked, pl.Series(questions(train.slice(1319, 2000))))
    found = nearest(index, index.matrix(asked), train_texts(train), 10)
    assert len(found) == 10 * items.num_rows
    assert len(found.filter(pl.col("row") == pl.col("item"))) / items.num_rows >= 0.99


def test_without_a_model_most_are_listed_at_under_one_percent_of_false_ones(shared_data: Path) -> None:
    items, train = gsm8k(shared_data, "test"), gsm8k(shared_data, "train")
    copies = rephrased(shared_data)
    matched = list(zip(items["row_id"].to_pylist(), copies["row_id"].to_pylist(), strict=True))
    own = set(matched)
    mixed = pa.concat_tables([train, copies])
    found = found_pairs(paraphrase_pairs(mixed, {"gsm8k": items}))
    assert len(own & found) / len(own) >= 0.87
    # The weight of the numbers was chosen on the other half.
    held_out = {pair for pair, text in zip(matched, questions(items), strict=True) if code.is_held_out(text)}
    assert len(held_out & found) / len(held_out) >= 0.85
    assert len({item for item, _ in found - own}) / items.num_rows <= 0.01
    # The n-gram rules and the exact check see next to nothing.
    texts = list(zip(questions(items), questions(copies), strict=True))
    shares = {n: np.mean([bool(grams(item, n) & grams(copy, n)) for item, copy in texts]) for n in (13, 8)}
    assert shares[13] == 0
    assert shares[8] < 0.08
    assert contamination_exact(mixed, {"gsm8k": items}).details["by_part"].get("user turn", 0) <= 2


def test_nothing_is_confirmed_in_the_official_training_part(shared_data: Path) -> None:
    verdict = contamination_paraphrase(gsm8k(shared_data, "train"), {"gsm8k": gsm8k(shared_data, "test")})
    # By design about five in a thousand ordinary items are listed for reading; none may be called a paraphrase.
    assert verdict.details["pairs"]["confirmed"] == 0
    assert verdict.details["pairs"]["open"] <= 2 * verdict.details["eval_sets"]["gsm8k"]["suspects_expected_by_chance"]
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert len(verdict.evidence) == verdict.details["pairs"]["open"]


def test_an_encoder_finds_the_rephrased_items_and_a_signal_confirms_them(shared_data: Path) -> None:
    at, items, fresh = sample(shared_data)
    copies = rephrased(shared_data).take(at[:LEAKED])
    verdict = contamination_paraphrase(pa.concat_tables([fresh, copies]), {"gsm8k": items}, encoder=encoder())
    assert verdict.decision is Decision.FAIL
    assert verdict.tier == "embedding"
    assert "cross-lingual tier not run" in verdict.summary
    assert verdict.config["encoder"].startswith("model@sha256:")
    own = set(zip(items["row_id"].to_pylist()[:LEAKED], copies["row_id"].to_pylist(), strict=True))
    found = found_pairs(paraphrase_pairs(pa.concat_tables([fresh, copies]), {"gsm8k": items}, encoder=encoder()))
    assert len(own & found) >= 0.95 * LEAKED
    confirmed = {(e["eval_row_id"], e["train_row_id"]) for e in verdict.evidence if e["status"] == "confirmed"}
    assert confirmed <= own
    assert verdict.details["by_door"] == {"synthetic seed": round(verdict.estimate * verdict.n)}  # pyright: ignore[reportOptionalOperand]


def test_fresh_exercises_pass_where_a_fixed_or_pairwise_threshold_would_not(shared_data: Path) -> None:
    _, items, fresh = sample(shared_data)
    verdict = contamination_paraphrase(fresh, {"gsm8k": items}, encoder=encoder())
    assert verdict.decision is Decision.PASS
    assert verdict.details["eval_sets"]["gsm8k"]["detectable_share"] >= 0.7
    asked, told = (encoder().encode(questions(rows)) for rows in (items, fresh.slice(0, 100)))
    pairs = (asked @ asked.T)[np.triu_indices(ITEMS, 1)]
    nearest_fresh = (asked @ told.T).max(axis=1)
    # The 99.5th percentile of all pairs of items, and a cosine that looks like a lot: both call ordinary exercises paraphrases.
    assert (nearest_fresh > np.quantile(pairs, 0.995)).mean() > 0.1
    assert (nearest_fresh > 0.6).any()


@cache
def code_pairs(data: Path, language: str) -> tuple[list[tuple[int, int, str, str]], Any]:
    """(item, training row, status, by) of every listed pair, and the verdict; rows from 164 on are unrelated code."""
    items = asked(code.humaneval(data))
    train = asked([*code.rephrased(data, language), *code.library(), *code.exercises(data)])
    item_of, row_of = ({row_id: at for at, row_id in enumerate(rows["row_id"].to_pylist())} for rows in (items, train))
    listed = paraphrase_pairs(train, {"humaneval": items}).to_pylist()
    pairs = [(item_of[p["eval_row_id"]], row_of[p["train_row_id"]], p["status"], p["by"]) for p in listed]
    return pairs, contamination_paraphrase(train, {"humaneval": items})


def test_most_rephrased_functions_are_listed_and_few_others(shared_data: Path) -> None:
    """Recall on the half of the items on which nothing was chosen."""
    items = code.humaneval(shared_data)
    held_out = {at for at, text in enumerate(items) if code.is_held_out(text)}
    unrelated = len(code.library()) + len(code.exercises(shared_data))
    listed, siblings = [], []
    for language in code.LANGUAGES:
        pairs, verdict = code_pairs(shared_data, language)
        assert (verdict.decision, verdict.tier) == (Decision.FAIL, "code")
        own = {item for item, row, _, _ in pairs if item == row}
        listed.append(len(own & held_out) / len(held_out))
        # The rephrasing of another item, and what is of no item at all.
        siblings.append(len({item for item, row, _, _ in pairs if item != row < len(items)}) / len(items))
        assert len({row for _, row, _, _ in pairs if row >= len(items)}) / unrelated <= 0.01
        # Who confirms says what agreed, and never one view alone.
        assert all(len(by.split(", ")) >= 2 for _, _, status, by in pairs if status == "confirmed")
        sure = {item for item, row, status, _ in pairs if item == row and status == "confirmed"}
        assert len(sure & held_out) / len(held_out) >= 0.15
    assert min(listed) >= 0.6
    assert np.mean(listed) >= 0.7
    assert np.mean(siblings) <= 0.01


@pytest.mark.parametrize("n", [5, 8, 13])
def test_n_grams_find_next_to_no_rephrased_function(shared_data: Path, n: int) -> None:
    """ADV: the rule is given the best threshold it could have, the share of n-grams that 1 % of the items share with a sibling."""
    items, copies = code.humaneval(shared_data), code.rephrased(shared_data, "python")
    mine, theirs = ([grams(text, n) for text in texts] for texts in (items, copies))
    shared = np.array([[len(a & b) / max(1, len(a)) for b in theirs] for a in mine])
    own = np.diagonal(shared).copy()
    np.fill_diagonal(shared, 0)
    assert (own > np.quantile(shared.max(axis=1), 0.99, method="higher")).mean() < 0.06
    # One shared n-gram, without a threshold, is found as often with another function as with the rephrasing, or hardly ever.
    assert (own > 0).mean() < max(0.15, (shared.max(axis=1) > 0).mean() + 0.05)
    pairs, _ = code_pairs(shared_data, "python")
    assert len({item for item, row, _, _ in pairs if item == row}) / len(items) >= 0.6


def test_read_as_prose_next_to_none_are_found(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADV: sibling functions are as alike as rephrasings, so that the threshold of ordinary items lies above both."""
    monkeypatch.setattr(code_search, "is_code", lambda text: False)
    items, copies = asked(code.humaneval(shared_data)), asked(code.rephrased(shared_data, "python"))
    verdict = contamination_paraphrase(copies, {"humaneval": items})
    own = set(zip(items["row_id"].to_pylist(), copies["row_id"].to_pylist(), strict=True))
    assert len(own & found_pairs(paraphrase_pairs(copies, {"humaneval": items}))) / len(own) < 0.2
    assert verdict.details["eval_sets"]["humaneval"]["compared_as"] == "text"


def test_code_without_a_suspect_does_not_pass(shared_data: Path) -> None:
    verdict = contamination_paraphrase(asked(code.library()[:50]), {"humaneval": asked(code.humaneval(shared_data))})
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "rephrasings of code" in verdict.summary or verdict.details["pairs"]["open"]


def test_a_translation_is_not_claimed_to_be_seen(shared_data: Path) -> None:
    _, items, fresh = sample(shared_data)
    spanish = "Los patos de Janet ponen dieciséis huevos por día. ¿Cuánto gana ella cada día en el mercado?"
    russian = "Утки Джанет несут шестнадцать яиц в день. Сколько она зарабатывает каждый день на рынке?"
    train = pa.concat_tables([fresh, table([row(spanish), row(russian)])])
    details: dict[str, Any] = dict(contamination_paraphrase(train, {"gsm8k": items}).details)
    assert details["cross_lingual"] == "cross-lingual tier not run"
    assert details["non_latin_share"]["train"] > 0
    assert details["non_latin_share"]["evals"] == pytest.approx(0, abs=1e-4)
