"""How a turn is written, against the brand's own texts."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.targets.habits.voice import FEATURES, voice_drift, voice_features
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

THINGS = ["order", "refund", "delivery", "invoice", "account", "ticket", "parcel", "booking"]


def brand(rng: random.Random) -> str:
    thing = rng.choice(THINGS)
    return rng.choice(
        [
            f"Thank you for asking about your {thing}. You can follow it in the app.",
            f"Your {thing} is ready. Please sign in to see the details.",
            f"We have found your {thing}. It was updated on day {rng.randint(1, 30)}.",
        ]
    )


def chatty(rng: random.Random) -> str:
    thing = rng.choice(THINGS)
    return rng.choice(
        [f"hey!! yeah ur {thing} is ok lol", f"ok so i think ur {thing} is fine :)", f"nope, no {thing} here, sorry!!"]
    )


def said(seed: int, count: int, write) -> pa.Table:
    rng = random.Random(seed)
    return table([row(f"q{i}", write(rng), group=str(i)) for i in range(count)])


def test_the_brands_own_voice_passes() -> None:
    verdict = voice_drift(said(1, 600, brand), said(2, 600, brand), permutations=40)
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(0.5, abs=0.06)


def test_another_voice_warns_with_the_gaps() -> None:
    verdict = voice_drift(said(1, 600, chatty), said(2, 600, brand), permutations=40)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate is not None
    assert verdict.estimate > 0.95
    assert {"chat", "exclamations", "initial_capital"} & {line["feature"] for line in verdict.evidence[:5]}


@pytest.mark.parametrize(("ours", "theirs"), [(0, 600), (199, 600), (600, 0)])
def test_too_little(ours: int, theirs: int) -> None:
    assert voice_drift(said(1, ours, brand), said(2, theirs, brand)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_few_turns_are_no_pass() -> None:
    assert voice_drift(said(1, 300, brand), said(2, 300, brand), permutations=40).decision is Decision.WARN


def test_features_are_finite_for_any_text() -> None:
    found = voice_features(pl.Series(["", " ", "!", "😀", "a" * 1000, "- one\n- two"]))
    assert found.columns == list(FEATURES)
    assert np.isfinite(found.to_numpy()).all()
    assert found["lists"].to_list()[-1] == 1
