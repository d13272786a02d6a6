"""What the trainer's tests share: the bundled base model and rows as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.rows.schema import MESSAGE_TYPE, row_id
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, TrainingManifest, prepare

Turn = tuple[str, str]


def conversation(*turns: Turn, untrained: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Messages; assistant turns are trainable except at positions `untrained`."""
    return [{"role": r, "content": c, "trainable": r == "assistant" and i not in untrained} for i, (r, c) in enumerate(turns)]


def table(conversations: Sequence[list[dict[str, Any]]]) -> pa.Table:
    """Conversations as the columns training reads."""
    return pa.table(
        {
            "row_id": pa.array([row_id(c) for c in conversations], pa.string()),
            "messages": pa.array(conversations, pa.list_(MESSAGE_TYPE)),
        }
    )


@pytest.fixture(scope="session")
def base_model(repository: Path) -> Path:
    """The bundled base model."""
    return repository / "examples" / "support" / "base_model"


@pytest.fixture(scope="session")
def tokenizer(base_model: Path) -> Any:
    """Its tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model, local_files_only=True)


@pytest.fixture
def conversations() -> list[list[dict[str, Any]]]:
    """Forty questions about things the base model does not know."""
    colors = ("red", "green", "blue", "white")
    return [conversation(("user", f"what color is lamp {i}"), ("assistant", f"Lamp {i} is {colors[i % 4]}.")) for i in range(40)]


@pytest.fixture
def manifest_of(base_model: Path, tmp_path: Path) -> Callable[..., TrainingManifest]:
    """Builds the manifest of a short run over some conversations; keyword arguments override it."""
    written = 0

    def build(rows: Sequence[list[dict[str, Any]]], *, steps: int = 6, seed: int = 0, **overrides: Any) -> TrainingManifest:
        nonlocal written
        written += 1
        path = tmp_path / f"rows-{written}.parquet"
        pq.write_table(table(rows), path, write_page_checksum=True)
        settings: dict[str, Any] = {
            "base_name": "tarnwell-base-1m",
            "optimization": Optimization(steps=steps, batch_size=8, learning_rate=5e-3, seed=seed),
            "lora": LoraSettings(rank=4, alpha=8.0),
            "max_tokens": 128,
            "device": "cpu",
        }
        return prepare(base_model, path, **(settings | overrides))

    return build
