from __future__ import annotations

import io
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.kernels.header import SketchHeader, SketchMismatch, read_signatures, signature_table
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets

HEADER = SketchHeader(num_perm=16, seed=3, bands=4, rows=4)
SIGNATURES = minhash(shingle_sets(pl.Series(["one two three four", "", "ein zwei drei"])), 16, 3)
TABLE = signature_table(HEADER, pa.array(["a", "b", "c"]), SIGNATURES)


def test_signatures_return_from_a_file() -> None:
    file = io.BytesIO()
    pq.write_table(TABLE, file)
    ids, signatures = read_signatures(pq.read_table(file), HEADER, "old.parquet")
    assert ids.to_pylist() == ["a", "b", "c"]
    np.testing.assert_array_equal(signatures, SIGNATURES)
    _, part = read_signatures(pq.read_table(file).slice(1, 2), HEADER, "old.parquet")
    np.testing.assert_array_equal(part, SIGNATURES[1:])


@pytest.mark.parametrize("field", list(asdict(HEADER)))
def test_every_field_matters(field: str) -> None:
    own = getattr(HEADER, field)
    other = replace(HEADER, **{field: own + 1 if isinstance(own, int) else "legacy"})
    with pytest.raises(SketchMismatch, match=rf"old\.parquet have {field} .*again"):
        read_signatures(TABLE, other, "old.parquet")


@pytest.mark.parametrize(
    "metadata", [None, {b"ftplatform.sketch": b"{"}, {b"ftplatform.sketch": b'{"perm": 1}'}, {b"ftplatform.sketch": b"3"}]
)
def test_a_header_that_cannot_be_read(metadata: dict[bytes, bytes] | None) -> None:
    with pytest.raises(SketchMismatch, match=r"old\.parquet has no readable header"):
        read_signatures(TABLE.replace_schema_metadata(metadata), HEADER, "old.parquet")


def test_a_column_that_is_not_what_the_header_says() -> None:
    longer = pa.table({"id": ["a"], "signature": pa.array([[1] * 17], pa.list_(pa.uint32(), 17))}, metadata=TABLE.schema.metadata)
    with pytest.raises(SketchMismatch, match="instead of 16 uint32"):
        read_signatures(longer, HEADER, "old.parquet")
