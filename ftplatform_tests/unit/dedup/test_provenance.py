"""The union of origins: every removed row's origins reach the row kept for it, or the row is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ftplatform.contamination.matching import leaks
from ftplatform.dedup import diff
from ftplatform.dedup.near import NearDedup, near_duplicates
from ftplatform.dedup.provenance import provenance_union
from ftplatform.dedup.slices import slice_membership
from ftplatform.dedup.split import split
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

LOOSE = NearDedup(threshold=0.7)
SAID = "I want to return the blue kettle that arrived broken on monday, how do I do that please"


def corpus() -> pa.Table:
    near = [row(f"{SAID} {extra}", "Use the return form.", source=f"source {i}") for i, extra in enumerate(["", "now", "thanks"])]
    copies = [row("where is my parcel", "On its way.", source=name) for name in ("licensed", "scraped")]
    return table([*near, *copies, *(row(f"question {i} about item {i * 31}", f"reply {i}") for i in range(50))])


def test_our_own_dedup_keeps_every_origin() -> None:
    rows = corpus()
    result = near_duplicates(rows, settings=LOOSE)
    assert result.removed.num_rows == 3
    verdict = provenance_union(rows, result.kept, result.removed)
    assert verdict.decision is Decision.PASS
    assert verdict.n == rows.num_rows


def test_keeping_the_first_row_as_it_is_loses_origins() -> None:
    rows = corpus()
    result = near_duplicates(rows, settings=LOOSE)
    # The naive way: the kept rows as they were. Counts, ids and the diff are the same.
    naive = rows.filter(pa.array(np.isin(np.arange(rows.num_rows), [_first(rows, i) for i in result.kept["row_id"].to_pylist()])))
    assert naive["row_id"].to_pylist() == result.kept["row_id"].to_pylist()
    verdict = provenance_union(rows, naive, result.removed)
    assert verdict.decision is Decision.FAIL
    assert verdict.details["rows_with_lost_values"] == 3
    missing = {e["missing_origins"] for e in verdict.evidence}
    assert "scraped" in missing  # of the exact copy, whose row id is the kept one's


def _first(rows: pa.Table, row_id: str) -> int:
    return rows["row_id"].to_pylist().index(row_id)


def test_a_row_gone_without_trace_is_named() -> None:
    rows = corpus()
    result = near_duplicates(rows, settings=LOOSE)
    after = result.kept.slice(0, result.kept.num_rows - 1)
    lost = result.kept["row_id"][result.kept.num_rows - 1].as_py()
    verdict = provenance_union(rows, after, result.removed)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["row_id"] == lost
    # Led to a keeper that is not there either: a diff line is no proof.
    dangling = diff.removals(
        rows, np.array([_first(rows, lost)]), rows, np.array([0]), np.ones(1), diff.NEAR_TRAIN, slice_membership(rows)
    )
    dangling = dangling.set_column(1, dangling.schema.field(1), pa.array(["0" * 64]))
    both = pa.concat_tables([result.removed, dangling])
    assert provenance_union(rows, after, both).details["rows_without_trace"] == 1


def test_rows_that_gave_away_the_eval_owe_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [row(" ".join(f"w{k}" for k in rng.integers(0, 400, 25)), f"reply {i}", source=f"s{i % 3}") for i in range(200)]
    echoes = [row(r["messages"][0]["content"] + f" extra{i}", "other", source="echo") for i, r in enumerate(rows[:60])]
    corpus = table(rows + echoes)
    result = split(corpus, leaks=leaks)
    verdict = provenance_union(corpus, result.train, result.removal_diff, moved=result.eval)
    assert verdict.details["dropped_for_eval"] > 0
    assert verdict.decision is Decision.PASS


def test_no_rows_are_no_evidence() -> None:
    empty = corpus().slice(0, 0)
    assert provenance_union(empty, empty, diff.REMOVAL_SCHEMA.empty_table()).decision is Decision.INSUFFICIENT_EVIDENCE
