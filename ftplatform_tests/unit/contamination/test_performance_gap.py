"""Performance gap: found where it is, not where the sets differ in difficulty, and never claimed from too little data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.contamination.performance_gap import GapRule, performance_gap
from ftplatform.errors import InputDataError
from ftplatform.statistics.intervals import wilson
from ftplatform.statistics.power import required_n_noninferiority
from ftplatform.verdict import Decision, Verdict

REFERENCES = ("base", "v1", "v2")


def answers(ability: float, difficulty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """1 where a model of this ability solves the item (Rasch model)."""
    return (rng.random(len(difficulty)) < 1 / (1 + np.exp(difficulty - ability))).astype(float)


def world(
    seed: int, *, families: int = 400, leaked: float = 0.0, twin_harder: float = 0.0, per_family: int = 1
) -> dict[str, pa.Table]:
    """Scores of a model and three references on a vault, its twin and fresh items.

    leaked: share of the vault the model knows by heart. twin_harder: added difficulty of twin and fresh items.
    """
    rng = np.random.default_rng(seed)
    names = np.repeat([f"family-{i:04d}" for i in range(families)], per_family)
    difficulty = np.repeat(rng.normal(0, 1.5, families), per_family)
    known = np.repeat(rng.random(families) < leaked, per_family)
    sets = {
        "vault": (names, difficulty),
        "twin": (names, difficulty + twin_harder),
        "fresh": (np.char.add("fresh ", names), rng.permutation(difficulty) + twin_harder),
    }
    tables = {}
    for name, (family, hard) in sets.items():
        columns: dict[str, Any] = {"family": family.tolist(), "score": answers(1.0, hard, rng)}
        if name == "vault":
            columns["score"] = np.where(known, 1.0, columns["score"])
        columns |= {reference: answers(ability, hard, rng) for reference, ability in zip(REFERENCES, (0, 0.5, 1), strict=True)}
        tables[name] = pa.table(columns)
    return tables


def test_a_leaked_vault_fails_and_names_families() -> None:
    verdict = performance_gap(**world(1, leaked=0.6), references=REFERENCES)
    assert verdict.decision is Decision.FAIL
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0.02
    worst = verdict.evidence[0]
    assert worst["gap"] == 2.0, "solved as worded, failed as reworded, and the references the other way round"
    assert (worst["model_gap"], worst["reference_gap"]) == (1.0, -1.0)
    assert {gap["against"] for gap in verdict.details["gaps"]} == {"twin", "fresh"}
    assert verdict.plot is not None


@pytest.mark.parametrize("only", ["twin", "fresh"])
def test_either_counterpart_is_enough_to_fail(only: str) -> None:
    tables = world(2, leaked=0.6)
    assert performance_gap(tables["vault"], **{only: tables[only]}, references=REFERENCES).decision is Decision.FAIL


def test_a_clean_model_passes() -> None:
    verdict = performance_gap(**world(3, families=2500), references=REFERENCES)
    assert verdict.decision is Decision.PASS
    assert verdict.n >= verdict.n_required


def test_harder_counterparts_are_no_gap() -> None:
    tables = world(4, families=2500, twin_harder=0.5)
    verdict = performance_gap(**tables, references=REFERENCES)
    assert verdict.decision is Decision.PASS
    # Whoever looks at the model's own scores sees ten points vanish and calls it contamination.
    naive = performance_gap(**tables)
    assert naive.decision is Decision.FAIL
    assert verdict.details["gaps"][0]["model_gap"] > 0.05


def test_few_families_are_insufficient_with_a_number_that_is_computed() -> None:
    rng = np.random.default_rng(5)
    # A tenth of the families flips either way: exactly the textbook case.
    wins = rng.permutation(np.repeat([1, -1, 0], [3, 3, 54]))
    vault = pa.table({"family": [str(i) for i in range(60)], "score": np.where(wins < 0, 0.0, 1.0)})
    twin = pa.table({"family": [str(i) for i in range(60)], "score": np.where(wins > 0, 0.0, 1.0)})
    verdict = performance_gap(vault, twin)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (verdict.n, verdict.n_required) == (60, required_n_noninferiority(0.05, 0.10))
    # Half of both sets solved: unpaired variances add up, a quarter each.
    half = pa.table({"family": [str(i) for i in range(60)], "score": [0.0, 1.0] * 30})
    assert performance_gap(half, fresh=half).n_required == required_n_noninferiority(0.05, 0.5)


def test_no_difference_at_all_in_a_handful_of_families_is_no_pass() -> None:
    table = pa.table({"family": ["a", "b", "c"], "score": [1.0, 1.0, 1.0]})
    verdict = performance_gap(table, table)
    # The bootstrap of a constant has no width, so its bound alone would pass.
    assert (verdict.ci_high, verdict.decision) == (0.0, Decision.INSUFFICIENT_EVIDENCE)
    assert performance_gap(table).decision is Decision.INSUFFICIENT_EVIDENCE
    assert performance_gap(table, table.slice(0, 0)).n == 0


def test_paraphrases_of_one_family_are_one_observation() -> None:
    one = world(6, families=300, leaked=0.3)
    copies = {name: pa.concat_tables([table] * 8) for name, table in one.items()}
    single, eightfold = (performance_gap(**tables, references=REFERENCES) for tables in (one, copies))
    assert (single.n, eightfold.n) == (300, 300)
    assert (single.ci_low, single.ci_high) == (eightfold.ci_low, eightfold.ci_high)
    # Counting rows instead narrows the bounds to a third.
    rows = {
        name: table.set_column(0, "family", pa.array([str(i) for i in range(table.num_rows)])) for name, table in copies.items()
    }
    naive = performance_gap(rows["vault"], rows["twin"], references=REFERENCES)
    assert width(naive) < 0.5 * width(single)


def width(verdict: Verdict) -> float:
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    return verdict.ci_high - verdict.ci_low


def test_deterministic_and_unmoved_by_order() -> None:
    tables = world(7, leaked=0.2)
    order = pa.array(np.random.default_rng(0).permutation(400))
    shuffled = {name: table.take(order) for name, table in tables.items()}
    first, second = (performance_gap(**t, references=REFERENCES) for t in (tables, shuffled))
    assert (first.estimate, first.ci_low, first.ci_high) == (second.estimate, second.ci_low, second.ci_high)


def test_too_wide_to_exclude_warns() -> None:
    verdict = performance_gap(**world(8, leaked=0.1, families=1200), references=REFERENCES)
    assert verdict.decision is Decision.WARN
    assert verdict.ci_high is not None
    assert verdict.ci_high >= 0.05


def test_power_and_false_alarms_over_seeds() -> None:
    rule = GapRule(resamples=1000)

    def failed(**settings: Any) -> int:
        return sum(
            performance_gap(**world(seed, **settings), references=REFERENCES, rule=rule).decision is Decision.FAIL
            for seed in range(40)
        )

    assert wilson(failed(leaked=0.6), 40).low > 0.85
    assert wilson(failed(twin_harder=0.5), 40).high < 0.15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": [0.5, 1.2]}, "is 1.2"),
        ({"score": [0.5, None]}, "is None"),
        ({"score": [float("nan"), 0.5]}, "is nan"),
        ({"family": ["a", None]}, "no family"),
        ({"score": None}, "lack score"),
    ],
)
def test_scores_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    good = {"family": ["a", "b"], "score": [0.0, 1.0]}
    bad = {key: value for key, value in {**good, **change}.items() if value is not None}
    with pytest.raises(InputDataError, match=message) as error:
        performance_gap(pa.table(good), pa.table(bad))
    assert error.value.remedy


def test_two_references_show_no_spread() -> None:
    tables = world(9, families=30)
    with pytest.raises(InputDataError, match="2 reference"):
        performance_gap(**tables, references=REFERENCES[:2])


@pytest.mark.parametrize("bad", [{"max_gap": 0.1}, {"confidence": 1.0}, {"resamples": 10}, {"min_references": 1}])
def test_rules_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        GapRule(**bad)
