"""Decodes one Parquet file in a process of its own, whose memory the kernel limits.

No check of sizes can replace the limit: dictionaries, run lengths, prefix encodings and nested lists each let a few bytes decode
to gigabytes inside one call of the decoder, and the footer may lie about all of them. Run by `parquet_records` as a script; it
imports nothing but pyarrow. A crash of the decoder on a malformed file ends this process only.

Protocol: ``parquet_worker.py PATH BUDGET_BYTES BATCH_BYTES`` writes frames to standard output: a type byte, the payload's length
(8 bytes, little endian), the payload. ``N`` number of rows the footer claims; ``B`` an Arrow IPC stream with one batch; ``L`` one
row that is larger than a batch may be, skipped, with its size; ``E`` an error message; ``D`` done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

_BATCH_ROWS = 1_024
_THRIFT_LIMITS: dict[str, Any] = {"thrift_string_size_limit": 16 << 20, "thrift_container_size_limit": 1_000_000}


def _limit_memory(budget: int) -> None:
    """Lets this process grow by `budget` bytes. Linux counts private writable memory; elsewhere there is no such limit."""
    try:
        import resource

        with open("/proc/self/status", encoding="ascii") as status:
            used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + budget, used + budget))
    except (ImportError, OSError, StopIteration):
        return


def _batches(path: str, rows: int) -> Iterator[Any]:
    """Record batches of the whole file. Memory permitting they have `_BATCH_ROWS` rows; where not, fewer and fewer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    done, size = 0, _BATCH_ROWS
    while True:
        seen = 0
        try:
            # One row group at a time and nothing read ahead: memory holds one page per column and one batch.
            # Page checksums are verified where the writer left them.
            file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True, **_THRIFT_LIMITS)
            for group in range(file.metadata.num_row_groups):
                length = file.metadata.row_group(group).num_rows
                if seen + length <= done:
                    seen += length
                    continue
                for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                    start = max(0, done - seen)
                    seen += batch.num_rows
                    if start < batch.num_rows:
                        yield batch.slice(start)
                        done = seen
            if done != rows:
                raise pa.ArrowInvalid(f"the footer promises {rows} rows and {done} were there")
            return
        except (pa.ArrowMemoryError, MemoryError):
            if size == 1:
                raise
            size //= 8 if size >= 8 else size
            size = max(1, size)


def _send(out: BinaryIO, kind: bytes, payload: bytes | memoryview) -> None:
    out.write(kind + len(payload).to_bytes(8, "little"))
    out.write(payload)
    out.flush()


def _send_batch(out: BinaryIO, batch: Any, batch_bytes: int) -> None:
    import pyarrow as pa

    if batch.nbytes > batch_bytes:
        if batch.num_rows == 1:
            _send(out, b"L", str(batch.nbytes).encode())
            return
        half = batch.num_rows // 2
        _send_batch(out, batch.slice(0, half), batch_bytes)
        _send_batch(out, batch.slice(half), batch_bytes)
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    _send(out, b"B", memoryview(sink.getvalue()))


def main(path: str, budget: int, batch_bytes: int) -> None:
    """Writes the file's frames to standard output."""
    out = sys.stdout.buffer
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        _limit_memory(budget)
        rows = pq.ParquetFile(path, **_THRIFT_LIMITS).metadata.num_rows
        _send(out, b"N", str(rows).encode())
        for batch in _batches(path, rows):
            _send_batch(out, batch, batch_bytes)
        _send(out, b"D", b"")
    except MemoryError as error:
        # ArrowMemoryError is one of these.
        _send(out, b"E", f"decompression bomb: a row needs more than {budget >> 20} MiB to decode ({error})"[:500].encode())
    except BrokenPipeError:
        return
    except (OSError, ValueError, KeyError, NotImplementedError, TypeError) as error:
        # Every Arrow exception is one of these.
        _send(out, b"E", f"not readable as Parquet: {' '.join(str(error).split())}"[:500].encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
