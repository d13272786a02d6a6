"""What losses and bytes say about a replay, and when two configurations are the same."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from ftplatform.closure.outcome import (
    COMPARED_STEPS,
    LOSS_TOLERANCE,
    Outcome,
    compare,
    config_digest,
    environment_differences,
    same_configuration,
)

LOSSES = [3.0, 2.5, 2.25, 2.0]


@pytest.mark.parametrize(
    ("replayed", "same_bytes", "expected"),
    [
        (LOSSES, True, Outcome.IDENTICAL),
        (LOSSES[:2], None, Outcome.IDENTICAL),
        ([3.0, 2.5 + 9e-6], None, Outcome.EQUIVALENT),
        ([3.0, 2.5 + 9e-6, 2.25, 2.0], False, Outcome.EQUIVALENT),
        ([3.0, 2.5 + 2e-5], None, Outcome.DIVERGED),
        ([3.0, 2.6, 2.3, 2.1], False, Outcome.DIVERGED),
        ([*LOSSES, 1.9], False, Outcome.DIVERGED),
        ([], None, Outcome.NOT_TRIED),
    ],
)
def test_outcomes(replayed: list[float], same_bytes: bool | None, expected: Outcome) -> None:
    assert compare(LOSSES, replayed, same_bytes=same_bytes).outcome is expected


def test_other_files_after_the_same_losses_are_not_explained_by_rounding() -> None:
    comparison = compare(LOSSES, LOSSES, same_bytes=False)
    assert comparison.outcome is Outcome.DIVERGED
    assert comparison.max_loss_difference == 0


def test_late_differences_do_not_decide_and_early_ones_do() -> None:
    """Rounding errors grow from step to step; a comparison of whole curves would call every other machine diverged."""
    recorded = [1.0] * 200
    late = [1.0 + (5e-6 if step < COMPARED_STEPS else 1e-3) for step in range(200)]
    assert max(abs(a - b) for a, b in zip(recorded, late, strict=True)) > LOSS_TOLERANCE
    assert compare(recorded, late, same_bytes=False).outcome is Outcome.EQUIVALENT
    early = [1.0 + (1e-3 if step == 5 else 0.0) for step in range(200)]
    comparison = compare(recorded, early, same_bytes=False)
    assert comparison.outcome is Outcome.DIVERGED
    assert "step 6" in comparison.reason


def test_a_set_in_another_order_is_the_same_configuration() -> None:
    """ADV: PEFT writes target modules in hash order, so the file's hash differs in every process."""
    first = json.dumps({"r": 4, "target_modules": ["q_proj", "v_proj"], "base": "tiny"}).encode()
    second = json.dumps({"base": "tiny", "target_modules": ["v_proj", "q_proj"], "r": 4}, indent=2).encode()
    assert sha256(first).hexdigest() != sha256(second).hexdigest(), "what a hash of the bytes concludes"
    assert same_configuration(first, second)
    assert not same_configuration(first, first.replace(b'"r": 4', b'"r": 8'))
    assert not same_configuration(first, first.replace(b"v_proj", b"k_proj"))


def test_a_list_that_is_no_set_keeps_its_order() -> None:
    assert config_digest(b'{"layers": [1, 2]}') != config_digest(b'{"layers": [2, 1]}')
    with pytest.raises(ValueError, match="JSON object"):
        config_digest(b"[]")


def test_differences_of_the_surroundings_are_named_by_field() -> None:
    manifest = {
        "environment": {"python": "3.11.9", "packages": {"torch": "2.13.0", "ftplatform": "0.1.0", "numpy": "2.3.1"}},
        "runtime": {"capability_class": "x86_64/AVX512", "threads": 1, "variables": {}, "dtype": "bf16"},
    }
    environment = {"capability_class": "x86_64/AVX2", "threads": 1, "variables": {"MKL_CBWR": "COMPATIBLE"}, "packages": {}}
    found = environment_differences(manifest, environment, {"torch": "2.14.0", "ftplatform": "9", "numpy": "2.3.1"}, "3.11.9")
    assert [change.path for change in found] == [
        "/environment/packages/torch",
        "/runtime/capability_class",
        "/runtime/variables/MKL_CBWR",
    ]
