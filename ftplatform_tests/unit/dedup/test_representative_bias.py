"""Which rows represent the others: the keep-shortest rule is seen, the medoid rule is not blamed."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.dedup import diff
from ftplatform.dedup.representative_bias import CLUSTERS_REQUIRED, representative_bias, text_features
from ftplatform.dedup.slices import slice_membership
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

WORDS = [f"word{i}" for i in range(300)]
#: Each occurs once, so that word counts of all rows stay comparable.
NO_PAIRS = slice(0, 0)


def clusters(count: int, members: int, seed: int = 0) -> tuple[pa.Table, list[list[int]]]:
    """Clusters of one text of 5 to 200 words, each member with 0 to 6 more words; and their positions."""
    rng = random.Random(seed)
    rows, places = [], []
    for _ in range(count):
        base = rng.choices(WORDS, k=rng.choice([5, 20, 60, 200]))
        places.append(list(range(len(rows), len(rows) + members)))
        rows += [row(" ".join(base + rng.choices(WORDS, k=k)), "reply") for k in rng.sample(range(7), members)]
    return table(rows), places


def removed(rows: pa.Table, places: list[list[int]], keep: list[int]) -> pa.Table:
    """The removal diff when of each cluster the member at `keep` stays."""
    gone = [p for k, members in zip(keep, places, strict=True) for p in members if p != members[k]]
    kept = [members[k] for k, members in zip(keep, places, strict=True) for _ in members[1:]]
    ones = np.full(len(gone), 0.9)
    return diff.removals(rows, np.array(gone), rows, np.array(kept), ones, diff.NEAR_TRAIN, slice_membership(rows))


def lengths(rows: pa.Table) -> np.ndarray:
    return np.array([len(m[0]["content"]) for m in rows["messages"].to_pylist()])


def test_keep_shortest_is_seen_inside_clusters_where_the_totals_hide_it() -> None:
    rows, places = clusters(120, 4)
    size = lengths(rows)
    shortest = [int(np.argmin(size[members])) for members in places]
    pairs = removed(rows, places, shortest)
    verdict = representative_bias(rows, pairs)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == verdict.details["features"]["length"]["d"]
    assert verdict.details["features"]["length"]["low"] > 0.5
    assert "more length" in verdict.summary
    assert verdict.evidence[0]["feature"] == "length"
    # Kept and removed rows as two heaps: texts of 5 and of 200 words drown a difference of three.
    kept = np.log1p([size[members[k]] for k, members in zip(shortest, places, strict=True)])
    gone = np.log1p([size[p] for k, members in zip(shortest, places, strict=True) for p in members if p != members[k]])
    unpaired = (gone.mean() - kept.mean()) / np.sqrt((kept.var() + gone.var()) / 2)
    assert abs(unpaired) < 0.3


def test_a_random_representative_passes() -> None:
    rows, places = clusters(120, 4, seed=1)
    keep = np.random.default_rng(0).integers(0, 4, 120).tolist()
    verdict = representative_bias(rows, removed(rows, places, keep))
    assert verdict.decision is Decision.PASS
    assert verdict.n == 120


def test_one_large_cluster_is_one_observation() -> None:
    # 400 pairs that all say "shorter was kept", of one kept row: not 400 witnesses.
    rows = table([row("short one", "reply"), *(row(f"short one {'and longer ' * 3}{i}", "reply") for i in range(400))])
    gone = np.arange(1, 401)
    pairs = diff.removals(rows, gone, rows, np.zeros(400, np.int64), np.ones(400), diff.NEAR_TRAIN, slice_membership(rows))
    verdict = representative_bias(rows, pairs)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (verdict.n, verdict.n_required) == (1, CLUSTERS_REQUIRED)


def test_clean_and_polite_representatives_are_seen() -> None:
    rows, places = [], []
    for i in range(60):
        rows += [row(f"please reverse refund {i} for me", "ok"), row(f"this is a ridiculous scam!!! reverse refund {i}", "ok")]
        places.append([2 * i, 2 * i + 1])
    verdict = representative_bias(table(rows), removed(table(rows), places, [0] * 60))
    assert verdict.decision is Decision.WARN
    features = verdict.details["features"]
    assert features["negative_words"]["low"] > 0.5
    assert features["punctuation"]["low"] > 0.5


def test_features_are_what_they_say() -> None:
    found = text_features(pl.Series(["", "Terrible, terrible!", "¿Qué? zyx"]), pl.Series(["zyx"]))
    assert found["length"].to_list() == pytest.approx([0, np.log(20), np.log(10)])
    assert found["punctuation"].to_list() == pytest.approx([0, 2 / 19, 2 / 9])
    assert found["negative_words"].to_list() == [0, 1, 0]
    assert found["rare_words"].to_list() == [0, 0, 0.5]


def test_equal_rows_differ_by_nothing_and_a_constant_difference_is_bounded() -> None:
    rows, places = [], []
    for i in range(40):
        rows += [row(f"{i:03d} same words", "ok"), row(f"{i:03d} words same", "ok")]
        places.append([2 * i, 2 * i + 1])
    verdict = representative_bias(table(rows), removed(table(rows), places, [0] * 40))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == 0
    rows = [row(f"{i:03d} same words{'!' * (k % 2)}", "ok") for i in range(40) for k in range(2)]
    verdict = representative_bias(table(rows), removed(table(rows), places, [0] * 40))
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == 10


def test_a_diff_of_other_rows_is_refused_and_evidence_masked() -> None:
    rows, places = clusters(40, 2)
    pairs = removed(rows, places, [0] * 40)
    with pytest.raises(InputDataError, match="not among the rows before"):
        representative_bias(rows.slice(0, 10), pairs)
    said = [row(f"{i} write to me{k * ' at once and without delay, jo@example.org'}", "ok") for i in range(40) for k in range(2)]
    verdict = representative_bias(table(said), removed(table(said), places, [0] * 40))
    assert "[EMAIL]" in str(verdict.evidence[0]["removed_text"])
