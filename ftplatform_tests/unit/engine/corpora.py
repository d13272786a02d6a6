"""Corpora cut into part files, and the clusters that one machine finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform.engine.pipeline import Settings
from ftplatform.kernels.clusters import near_duplicate_clusters

Text = str | None


def write_parts(folder: Path, texts: Sequence[Text], cuts: Sequence[int] = ()) -> list[Path]:
    """Parquet files of the texts between the cuts; row k has the id `r<k>`."""
    files = []
    for start, end in pairwise([0, *cuts, len(texts)]):
        columns = {
            "row_id": pa.array([f"r{k}" for k in range(start, end)], pa.string()),
            "text": pa.array(texts[start:end], pa.string()),
        }
        files.append(folder / f"{start:07d}-{end:07d}.parquet")
        pq.write_table(pa.table(columns), files[-1])
    return files


def expected(texts: Sequence[Text], settings: Settings) -> pa.Table:
    """What the column of all texts in one memory gives."""
    found = near_duplicate_clusters(
        pa.array(texts, pa.string()),
        settings.threshold,
        recall=settings.recall,
        width=settings.width,
        num_perm=settings.num_perm,
        seed=settings.seed,
    )
    ids = pa.array([f"r{k}" for k in range(len(texts))], pa.large_string())
    return pa.table(
        {
            "row_id": ids,
            "cluster": ids.take(pa.array(found.cluster)),
            "representative": ids.take(pa.array(found.representative)),
            "similarity": found.similarity,
        }
    )


def assert_same(file: Path, wanted: pa.Table) -> None:
    """Row for row, to the last bit."""
    result = pq.read_table(file)
    assert result.schema.names == wanted.schema.names
    for name in wanted.schema.names:
        assert result[name].to_pylist() == wanted[name].to_pylist(), name
