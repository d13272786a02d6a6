"""Limits from how much real inputs of one channel differ among themselves."""

from __future__ import annotations

import random
from functools import partial

import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.synthesis import calibration as limits
from ftplatform.synthesis.calibration import FAIL_ABOVE, PASS_BELOW, Calibration
from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, real

calibrate_surface = partial(limits.calibrate_surface, permutations=30)


def domain(name: str, seed: int, shouting: float = 0.0, polite: float = 0.0, n: int = 900) -> pa.Table:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        text = (clean if rng.random() < polite else real)(rng, rng.choice(list(TOPICS)))
        rows.append(row(text.upper() if rng.random() < shouting else text, group=f"{name}-{i}", slices=[name], source="app"))
    return table(rows)


def test_parts_that_differ_widen_the_limit_and_real_text_passes() -> None:
    calibration = calibrate_surface(pa.concat_tables([domain("a", 1), domain("b", 2, shouting=0.35)]), "slice")
    assert calibration.calibrated
    assert PASS_BELOW < calibration.pass_below < FAIL_ABOVE
    assert calibration.fail_above >= calibration.pass_below + 0.1
    assert calibration.plot.startswith("<svg")
    candidate, reference = domain("b", 3, shouting=0.35), domain("a", 4)
    assert input_surface_match(candidate, reference, permutations=60).decision is Decision.WARN
    verdict = input_surface_match(candidate, reference, calibration=calibration, permutations=60)
    assert verdict.decision is Decision.PASS
    assert verdict.threshold == calibration.pass_below
    assert verdict.config["calibration"] == calibration.id
    # Clean text is as far away as ever.
    assert (
        input_surface_match(domain("c", 5, polite=1), reference, calibration=calibration, permutations=60).decision is Decision.FAIL
    )


def test_another_channel_loosens_nothing() -> None:
    """ADV: the largest difference between any two groups would let clean synthetic text pass."""
    calibration = calibrate_surface(pa.concat_tables([domain("a", 1), domain("b", 2), domain("spoken", 3, polite=1)]), "slice")
    assert max(split.ci_high for split in calibration.splits) > 0.9, "the naive limit"
    foreign = [split for split in calibration.splits if not split.used and split.note]
    assert {name for split in foreign for name in (split.a, split.b)} == {"a", "b", "spoken"}
    assert calibration.pass_below < 0.65
    candidate = domain("made", 4, polite=1)
    assert input_surface_match(candidate, domain("a", 5), calibration=calibration, permutations=60).decision is Decision.FAIL


def test_few_rows_do_not_widen_the_limit() -> None:
    """ADV: by the upper bound of a small sample the limit would be the wider, the less is known."""
    rng = random.Random(6)
    names = ("x", "y", "z")
    rows = domain("a", 6, n=1600).to_pylist()
    arbitrary = table(r | {"slices": [rng.choice(names)]} for r in rows)
    calibration = calibrate_surface(arbitrary, "slice")
    widest = max((s for s in calibration.splits if s.used), key=lambda s: s.ci_high)
    naive = widest.auc + 2.4142 * (widest.ci_high - widest.auc)
    assert calibration.pass_below < naive - 0.01
    assert calibration.pass_below < 0.65


def test_without_groups_or_rows_the_general_limits_stay() -> None:
    halves = calibrate_surface(domain("a", 1, n=1200))
    assert not halves.calibrated
    assert [split.b for split in halves.splits] == ["rest"] * 3
    assert all(split.ci_low < 0.55 for split in halves.splits)
    for few in (table([]), domain("a", 1, n=300)):
        calibration = calibrate_surface(few, "slice")
        assert (calibration.calibrated, calibration.pass_below, calibration.fail_above) == (False, PASS_BELOW, FAIL_ABOVE)
        assert "too few" in calibration.reason
    one = calibrate_surface(domain("a", 1, n=1200), "slice")
    assert not one.calibrated
    assert "fewer than two parts" in one.reason


def test_named_groups_record_and_wrong_groupings() -> None:
    rows = pa.concat_tables([domain("a", 1), domain("b", 2, shouting=0.3), domain("c", 3)])
    calibration = calibrate_surface(rows, "slice", groups=["a", "c"])
    assert [(s.a, s.b) for s in calibration.splits if s.used] == [("a", "c")]
    again = Calibration.from_record(calibration.to_record())
    assert (again, again.id) == (calibration, calibration.id)
    with pytest.raises(InputDataError, match="no part 'd'"):
        calibrate_surface(rows, "slice", groups=["a", "d"])
    with pytest.raises(InputDataError, match="does not name a grouping"):
        calibrate_surface(rows, "domain")
