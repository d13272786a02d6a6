"""Records of Parquet files under a memory budget. Nothing a footer says is trusted: 5 kB can decode to 18 GiB."""

from __future__ import annotations

import datetime
import decimal
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.errors import InputDataError
from ftplatform.rows.decoding import DecodedStream
from ftplatform.rows.limits import MIB
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason, raw_excerpt
from ftplatform.rows.raw_records import RawItems, RawRecord

_WORKER = Path(__file__).with_name("parquet_worker.py")
# What the decoding process may use beyond its start, and the largest batch it hands over.
_WORKER_BYTES = 256 * MIB
_BATCH_BYTES = 16 * MIB
# A row costs something even when it decodes to nothing: billions of nulls fit in a few bytes.
_ROW_BYTES = 64
# What is turned into Python objects at once.
_SLICE_BYTES = 4 * MIB


@contextmanager
def _on_disk(stream: DecodedStream, local: str | None) -> Iterator[str]:
    """Path of the file itself where it is local and plain, else of a temporary copy made under the caps."""
    if local is not None:
        yield local
        return
    with tempfile.NamedTemporaryFile(prefix="ftplatform-", suffix=".parquet") as copy:
        for chunk in stream.chunks():
            copy.write(chunk)
        copy.flush()
        yield copy.name


def parquet_records(stream: DecodedStream, local: str | None) -> RawItems:
    """Rows of a Parquet file as dicts of JSON-able values, nulls left out.

    Args:
        stream: the decoded stream; read only when `local` is None.
        local: path of the file, if it is local and not compressed as a whole.

    Raises:
        InputDataError: no Parquet file, damaged, or a bomb.
    """
    with _on_disk(stream, local) as path:
        size = os.path.getsize(path)
        if size:
            yield from _rows(path, size, stream)


def _rows(path: str, size: int, stream: DecodedStream) -> RawItems:
    allowed = max(stream.limits.ratio_grace_bytes, stream.limits.parquet_ratio * size)
    number = decoded = 0
    for kind, payload in _frames(path, stream):
        if kind == b"N":
            _require_no_bomb(_ROW_BYTES * int(payload), allowed, size, stream)
        elif kind == b"L":
            number += 1
            decoded += int(payload)
            message = f"{int(payload):,} bytes; the limit is {stream.limits.line_bytes:,}"
            yield Quarantined(Reason.LINE_TOO_LONG, number, message, "")
        else:
            with pa.ipc.open_stream(payload) as reader:
                batch = reader.read_next_batch()
            spent = _ROW_BYTES * batch.num_rows + decoded_bytes(_as_struct(batch))
            decoded += spent
            stream.budget.spend(spent, stream.name)
            _require_no_bomb(decoded, allowed, size, stream)
            yield from _items(batch, number, stream)
            number += batch.num_rows


def _require_no_bomb(decoded: int, allowed: float, size: int, stream: DecodedStream) -> None:
    if decoded > allowed:
        raise InputDataError(
            f"{stream.name}: decompression bomb: {size:,} stored bytes decode to {decoded:,} or more"
            f" (limit {stream.limits.parquet_ratio:g} to 1).",
            remedy="Remove the file, or write it again without dictionaries if the data is genuine.",
        )


def _frames(path: str, stream: DecodedStream) -> Iterator[tuple[bytes, bytes]]:
    """Frames of the decoding process (see `parquet_worker`), up to the end it announces.

    Raises:
        InputDataError: it announced an error, or died.
    """
    # The system allocator gives memory back and fails cleanly at the limit; -P keeps this folder out of the module search path.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(_WORKER), path, str(_WORKER_BYTES), str(_BATCH_BYTES)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            while True:
                head = process.stdout.read(9)
                kind, length = head[:1], int.from_bytes(head[1:], "little")
                payload = process.stdout.read(length) if len(head) == 9 else b""
                if len(head) < 9 or len(payload) < length:
                    raise InputDataError(
                        f"{stream.name}: not readable as Parquet: the decoder ended with code {process.wait()}.",
                        remedy="Write the file again.",
                    )
                if kind == b"E":
                    raise InputDataError(
                        f"{stream.name}: {payload.decode('utf-8', 'replace')}.", remedy="Write the file again, or remove it."
                    )
                if kind == b"D":
                    return
                yield kind, payload
        finally:
            process.kill()


def _as_struct(batch: pa.RecordBatch) -> pa.StructArray:
    return pa.StructArray.from_arrays(batch.columns, fields=list(batch.schema))


def decoded_bytes(array: pa.Array) -> int:
    """Bytes of text and binary in `array` if dictionaries were expanded, plus the buffers of everything else."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary) if _is_binary(kind.value_type) else None
        if lengths is None:
            return array.nbytes
        return int(pc.sum(pc.take(lengths, array.indices).cast(pa.int64())).as_py() or 0)
    if _is_binary(kind):
        return int(pc.sum(pc.binary_length(array).cast(pa.int64())).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(decoded_bytes(child) for child in array.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return decoded_bytes(array.flatten())
    if pa.types.is_map(kind):
        offsets = array.offsets
        first, last = offsets[0].as_py(), offsets[len(array)].as_py()
        return decoded_bytes(array.keys.slice(first, last - first)) + decoded_bytes(array.items.slice(first, last - first))
    return array.nbytes


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _items(batch: pa.RecordBatch, before: int, stream: DecodedStream) -> RawItems:
    """Rows of a batch, halved until a part is small enough to become Python objects."""
    if batch.num_rows == 0:
        return
    size = decoded_bytes(_as_struct(batch))
    if batch.num_rows == 1 and size > stream.limits.line_bytes:
        message = f"{size:,} bytes; the limit is {stream.limits.line_bytes:,}"
        yield Quarantined(
            Reason.LINE_TOO_LONG, before + 1, message, f"columns {', '.join(batch.schema.names)}"[: stream.limits.excerpt_chars]
        )
        return
    if size > _SLICE_BYTES:
        half = batch.num_rows // 2
        yield from _items(batch.slice(0, half), before, stream)
        yield from _items(batch.slice(half), before + half, stream)
        return
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            half = batch.num_rows // 2
            yield from _items(batch.slice(0, half), before, stream)
            yield from _items(batch.slice(half), before + half, stream)
        else:
            message = f"byte 0x{error.object[error.start]:02x} at offset {error.start} of a text is not valid UTF-8"
            yield Quarantined(Reason.INVALID_UTF8, before + 1, message, raw_excerpt(error.object, stream.limits.excerpt_chars))
        return
    for number, row in enumerate(rows, start=before + 1):
        if size > stream.limits.line_bytes and _weight(row) > stream.limits.line_bytes:
            message = f"{_weight(row):,} bytes; the limit is {stream.limits.line_bytes:,}"
            yield Quarantined(Reason.LINE_TOO_LONG, number, message, f"columns {', '.join(row)}"[: stream.limits.excerpt_chars])
            continue
        try:
            yield RawRecord(number, {name: _json_value(value) for name, value in row.items() if not _is_null(value)})
        except Malformed as malformed:
            yield Quarantined(
                malformed.reason, number, malformed.message, raw_excerpt(str(row)[:10_000], stream.limits.excerpt_chars)
            )


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_weight, value))
    return 8


def _is_null(value: Any) -> bool:
    # pandas writes a missing number as NaN.
    return value is None or (isinstance(value, float) and math.isnan(value))


def _json_value(value: Any) -> Any:
    """Parquet's richer types as JSON has them: times in ISO 8601, decimals as text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise Malformed(Reason.NON_FINITE_NUMBER, "a number is infinite")
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(Reason.INVALID_UTF8, f"binary value: byte 0x{value[error.start]:02x} is not valid UTF-8") from None
    raise Malformed(Reason.WRONG_TYPE, f"values of type {type(value).__name__} have no JSON form")
