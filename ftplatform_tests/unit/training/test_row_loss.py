"""The loss of a row is what the trainer would see of it at its first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftplatform.training.row_loss import row_losses
from ftplatform.training.train import train
from ftplatform_tests.unit.training.conftest import conversation, table


def test_equals_the_loss_of_the_first_step(base_model: Path, manifest_of: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        conversation(("user", "what color is lamp 6"), ("assistant", "Lamp 6 is red.")),
        conversation(("user", "what color is the very large lamp in hall 12"), ("assistant", "It is green, and it always was.")),
    ]
    alone = [train(manifest_of([row], steps=1, precision="fp32"), tmp_path / f"{i}").losses[0] for i, row in enumerate(rows)]
    assert row_losses(table(rows), base_model) == pytest.approx(alone, rel=1e-5)


def test_rows_keep_their_places_and_what_cannot_be_learned_has_none(base_model: Path) -> None:
    rows = [conversation(("user", f"what color is lamp {i}"), ("assistant", " ".join(["red"] * (1 + i % 7)))) for i in range(300)]
    rows[17] = conversation(("user", "hello"), ("assistant", "hi"), untrained=(1,))
    seen: list[tuple[int, int]] = []
    losses = row_losses(table(rows), base_model, progress=lambda *event: seen.append(event))
    assert np.flatnonzero(np.isnan(losses)).tolist() == [17]
    assert losses[42] == pytest.approx(row_losses(table([rows[42]]), base_model)[0], rel=1e-4)
    assert seen[-1] == (299, 299)
    assert row_losses(table([]), base_model).shape == (0,)
