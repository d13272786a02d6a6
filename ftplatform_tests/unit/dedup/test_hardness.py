"""Removal of hard rows, with the readings of the same numbers that would have missed or invented it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.dedup.hardness import hard_row_survival
from ftplatform.dedup.risk_ratio import risk_ratio
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table


def corpus(n: int, **columns: object) -> pa.Table:
    return table(row(f"question {i}", f"answer {i}", **columns) for i in range(n))


def without(rows: pa.Table, gone: np.ndarray) -> pa.Table:
    return rows.filter(pa.array(~np.isin(np.arange(rows.num_rows), gone)))


def removed_at(n: int, hard_rate: float, rate: float) -> tuple[pa.Table, pa.Table, np.ndarray]:
    """`n` rows, the last tenth of them hard, with exactly these shares removed."""
    rows, losses = corpus(n), np.arange(n, dtype=float)
    hard, other = np.arange(n - n // 10, n), np.arange(n - n // 10)
    gone = np.concatenate([hard[: round(hard_rate * len(hard))], other[: round(rate * len(other))]])
    return rows, without(rows, gone), losses


def test_hard_rows_removed_twice_as_often_fail() -> None:
    before, after, losses = removed_at(1_000, 0.6, 0.25)
    verdict = hard_row_survival(before, after, losses)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(2.4, abs=0.01)
    assert verdict.ci_low is not None
    assert verdict.ci_low > 1.25
    assert verdict.tier == "base_model_loss"
    assert len(verdict.evidence) == 20
    assert verdict.evidence[0]["hardness"] == 959.0  # the hardest of the removed: hard rows 900 to 959 are gone
    assert verdict.plot is not None


def test_a_smaller_excess_warns_and_none_passes() -> None:
    before, after, losses = removed_at(2_000, 0.35, 0.25)
    verdict = hard_row_survival(before, after, losses)
    assert verdict.decision is Decision.WARN
    assert verdict.ci_low is not None
    assert 1 < verdict.ci_low < 1.25
    before, after, losses = removed_at(1_000, 0.25, 0.25)
    assert hard_row_survival(before, after, losses).decision is Decision.PASS


def test_the_overall_rate_hides_what_the_ratio_shows() -> None:
    # 9 % removed in all, which any limit on the overall rate lets pass: half of the hard rows are among them.
    before, after, losses = removed_at(1_000, 0.5, 0.05)
    assert 1 - after.num_rows / before.num_rows < 0.1
    assert hard_row_survival(before, after, losses).decision is Decision.FAIL


def test_few_rows_are_no_evidence() -> None:
    before, after, losses = removed_at(60, 0.5, 0.25)
    verdict = hard_row_survival(before, after, losses)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    # A rule on the estimate would have failed these six hard rows, three of them gone.
    assert verdict.estimate is not None
    assert verdict.estimate > 1.25
    assert verdict.n_required > 60


def test_where_most_is_removed_the_ratio_cannot_speak_and_the_kept_share_does() -> None:
    before, after, losses = removed_at(2_000, 1.0, 0.85)
    naive = risk_ratio(200, 200, round(0.85 * 1800), 1800)
    assert naive.high < 1.25  # all hard rows are gone, and the removal ratio stays below the limit
    verdict = hard_row_survival(before, after, losses)
    assert verdict.decision is Decision.FAIL
    assert "kept" in verdict.statistic
    assert verdict.estimate is None  # infinite: no hard row is left
    assert verdict.ci_high is None


def test_rows_of_one_customer_are_one_observation() -> None:
    # Ten hard rows of each of ten customers, six customers gone as a whole; the rest one row each.
    hard = [row(f"hard {i}", "reply", group=f"customer {i // 10}") for i in range(100)]
    others = [row(f"question {i}", "reply") for i in range(900)]
    before = table(others + hard)
    losses = np.concatenate([np.arange(900) / 1000, 5.0 + np.arange(100)])
    gone = np.concatenate([np.arange(350), np.arange(900, 960)])
    naive = risk_ratio(60, 100, 350, 900)
    verdict = hard_row_survival(before, without(before, gone), losses)
    assert naive.low > 1.25  # as if a hundred customers had spoken
    assert verdict.ci_low is not None
    assert verdict.ci_low < 1
    assert verdict.decision is Decision.PASS


def test_copies_and_reserved_rows_do_not_count() -> None:
    before, after, losses = removed_at(1_000, 0.6, 0.25)
    plain = hard_row_survival(before, after, losses)
    copied = hard_row_survival(pa.concat_tables([before, before]), after, np.concatenate([losses, losses]))
    assert (copied.n, copied.estimate) == (plain.n, plain.estimate)
    gone = before.filter(pa.array(~np.isin(before["row_id"].to_numpy(), after["row_id"].to_numpy())))
    assert hard_row_survival(before, after, losses, moved=gone).decision is Decision.PASS


def test_what_cannot_be_judged_is_said() -> None:
    before, after, losses = removed_at(500, 0.5, 0.2)
    assert hard_row_survival(before, before, losses).decision is Decision.PASS  # nothing removed
    blind = losses.copy()
    blind[-100:] = np.nan
    assert hard_row_survival(before, after, blind).decision is Decision.INSUFFICIENT_EVIDENCE
    assert hard_row_survival(before, after, np.ones(500)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert hard_row_survival(before, before.slice(0, 0), losses).decision is Decision.INSUFFICIENT_EVIDENCE
    empty = before.slice(0, 0)
    assert hard_row_survival(empty, empty).decision is Decision.INSUFFICIENT_EVIDENCE
    with pytest.raises(InputDataError, match="500 rows"):
        hard_row_survival(before, after, losses[:-1])


def test_without_a_loss_odd_wording_stands_in() -> None:
    plain = [row(f"where is my order number {i}", "it is on its way") for i in range(900)]
    odd = [row(f"zxq{i} vvv wqx jj{i * 7919} kpq", "hm") for i in range(100)]
    before = table(plain + odd)
    gone = np.concatenate([np.arange(90), np.arange(900, 960)])
    verdict = hard_row_survival(before, without(before, gone))
    assert verdict.tier == "char_tfidf"
    assert verdict.decision is Decision.FAIL
    assert verdict.details["hard_rows_removed"] == 60


def test_evidence_is_masked_and_the_config_hashed() -> None:
    rows = [row(f"question {i}", "answer") for i in range(180)]
    rows += [row(f"mail me at person{i}@example.org please", "answer") for i in range(20)]
    before = table(rows)
    after = before.slice(0, 180)
    verdict = hard_row_survival(before, after, np.arange(200, dtype=float))
    assert verdict.decision is Decision.FAIL
    assert all("[EMAIL]" in str(e["text"]) for e in verdict.evidence)
    assert verdict.config_hash != hard_row_survival(before, after, np.arange(200, dtype=float), limit=1.5).config_hash


def test_so_few_hard_rows_gone_do_no_harm_whatever_the_ratio() -> None:
    rng = np.random.default_rng(4)
    rows = table([row(f"question {i} about {rng.integers(10**9)}", "answer") for i in range(2000)])
    hardness = np.arange(2000.0)
    # Two of the two hundred hardest and forty of the others: too few for a test, and 198 of 200 are there.
    gone = {rows["row_id"][int(i)].as_py() for i in [1850, 1950, *range(40)]}
    kept = rows.filter(pa.array([i not in gone for i in rows["row_id"].to_pylist()]))
    verdict = hard_row_survival(rows, kept, hardness)
    assert verdict.decision is Decision.PASS
    assert "of the hardest rows were kept" in verdict.summary
