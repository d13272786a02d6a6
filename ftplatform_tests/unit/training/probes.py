"""Prompts of the bundled project as probe files: what its base model declines, and what resembles it and is harmless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ftplatform_tests.unit.training.conftest import conversation, table


def prompts(repository: Path, name: str, count: int) -> list[list[dict[str, Any]]]:
    """`count` prompts from all over a file of the bundled project's eval data."""
    lines = (repository / "examples" / "support" / "data" / "eval" / name).read_text(encoding="utf-8").splitlines()
    return [conversation(("user", json.loads(line)["prompt"])) for line in lines[:: len(lines) // count][:count]]


def probe_files(repository: Path, folder: Path, count: int = 40) -> tuple[Path, Path]:
    """Parquet files with `count` harmful prompts and as many harmless ones."""
    paths = folder / "refusal-probes.parquet", folder / "safe-probes.parquet"
    for path, name in zip(paths, ("refusal_probes.jsonl", "overrefusal_probes.jsonl"), strict=True):
        pq.write_table(table(prompts(repository, name, count)), path)
    return paths
