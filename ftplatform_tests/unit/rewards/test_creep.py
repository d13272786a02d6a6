"""`style_creep` and the phrases it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rewards.creep import style_creep
from ftplatform.rewards.ledger import REWARD_SCHEMA
from ftplatform.rewards.style import STYLE_COLUMNS, count_style
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import OTHER_ROOT, ROOT, ledger


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("I am so sorry. My apologies, I apologise!", (8, 3, 0, 0, 0)),
        ("It might perhaps be 3 days, I think.", (8, 0, 3, 0, 0)),
        ("Please note that terms may change; however, consult your lawyer.", (10, 0, 1, 4, 0)),
        ("You’re absolutely right. Great question, of course.", (7, 0, 0, 0, 3)),
        ("The router costs 89 dollars.", (5, 0, 0, 0, 0)),
        ("Mayor Maybell regretted nothing in Subjectville.", (6, 0, 0, 0, 0)),
        ("", (0, 0, 0, 0, 0)),
    ],
)
def test_what_counts(answer: str, counts: tuple[int, ...]) -> None:
    table = ledger(None, np.ones((1, 1)), columns={"answer": [answer]})
    (row,) = count_style(table).select(STYLE_COLUMNS).to_pylist()
    assert tuple(row.values()) == counts


def test_counts_that_are_given_are_kept_and_no_answer_is_no_count() -> None:
    table = ledger(None, np.ones((2, 1)), columns={"answer": ["sorry", None], "apologies": [7.0, None]})
    assert count_style(table)["apologies"].to_pylist() == [7.0, None]
    assert count_style(table)["words"].to_pylist() == [1.0, None]


def counted(rng: np.random.Generator, n: int, rates: dict[str, tuple[float, float]], outcome: Any = None, **more: Any) -> pa.Table:
    """Counts per answer at two checkpoints; markers not named stay as they are."""
    usual = {"words": (40.0, 40.0), "apologies": (0.2, 0.2), "hedges": (0.5, 0.5), "caveats": (0.3, 0.3), "agreements": (0.4, 0.4)}
    columns = {
        name: np.concatenate([rng.poisson(rate, n) for rate in pair]).astype(float) for name, pair in {**usual, **rates}.items()
    }
    return ledger(outcome, rng.random((n, 2)), columns=columns, **more)


def scores(rng: np.random.Generator, n: int, gain: float) -> np.ndarray:
    return (rng.random((n, 2)) < np.array([0.6, 0.6 + gain])).astype(float)


def test_more_apologies_on_a_flat_task_fail() -> None:
    rng = np.random.default_rng(0)
    verdict = style_creep(counted(rng, 1000, {"apologies": (0.2, 0.5)}, scores(rng, 1000, 0.0)))
    assert verdict.decision is Decision.FAIL
    assert verdict.summary.startswith("apologies 2.")
    assert verdict.ci_low is not None
    assert verdict.ci_low > 1.25


def test_a_better_task_or_an_unknown_one_warns() -> None:
    rng = np.random.default_rng(1)
    assert style_creep(counted(rng, 1000, {"words": (40, 80)}, scores(rng, 1000, 0.2))).decision is Decision.WARN
    assert style_creep(counted(rng, 1000, {"words": (40, 80)})).decision is Decision.WARN
    swapped = counted(rng, 1000, {"words": (40, 80)}, scores(rng, 1000, 0.0), roots=[ROOT, OTHER_ROOT])
    assert style_creep(swapped).decision is Decision.WARN


def test_no_growth_passes_and_rare_markers_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    verdict = style_creep(counted(rng, 3000, {"caveats": (0.0005, 0.0005)}))
    assert verdict.decision is Decision.PASS
    assert verdict.details["too_rare"] == ["caveats"]


def test_all_five_together_cry_wolf_one_time_in_twenty() -> None:
    """ADV: five markers at the limit, each tested at .05, warn in up to a quarter of all loops."""
    limit = {
        name: (rate, 1.25 * rate) for name, rate in (("apologies", 0.3), ("hedges", 0.5), ("caveats", 0.3), ("agreements", 0.4))
    }
    verdicts = [style_creep(counted(np.random.default_rng(s), 400, limit)) for s in range(120)]
    naive = [any(r["low"] > 1.25 for r in v.details["ratios"].values()) for v in verdicts]
    ours = [v.decision is Decision.WARN for v in verdicts]
    assert np.mean(naive) > 0.12
    assert np.mean(ours) <= 0.11


def test_a_drift_no_neighbors_show() -> None:
    """ADV: eight steps of 8 %; against the anchor the answers are twice as long."""
    rng = np.random.default_rng(4)
    lengths = np.stack([rng.poisson(40 * 1.08**step, 500) for step in range(9)], axis=1).astype(float)
    for step in range(8):
        pair = ledger(None, np.ones((500, 2)), columns={"words": lengths[:, step : step + 2].T.ravel()})
        assert style_creep(pair).decision is Decision.PASS
    course = ledger(None, np.ones((500, 9)), columns={"words": lengths.T.ravel()})
    assert style_creep(course).decision is Decision.WARN


def test_too_little() -> None:
    rng = np.random.default_rng(3)
    for table in (REWARD_SCHEMA.empty_table(), ledger(None, np.ones((500, 2))), counted(rng, 99, {"words": (40, 90)})):
        assert style_creep(table).decision is Decision.INSUFFICIENT_EVIDENCE


def test_evidence_shows_the_answers_masked() -> None:
    n = 120
    table = ledger(None, np.ones((n, 2)), columns={"answer": ["It is 3 days."] * n + ["So sorry, jo@example.org, sorry."] * n})
    verdict = style_creep(count_style(table))
    assert verdict.decision is Decision.WARN
    assert verdict.evidence[0]["answer"] == "So sorry, [EMAIL], sorry."
