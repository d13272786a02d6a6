"""Tables in the store that only grow: what was expensive to get once is kept piece by piece, and read before it is got again.

    <folder>/<sha256>.parquet

A piece is written when a part of the work is done and never changed, so a process killed halfway loses one part at most. Pieces are
no part of any snapshot: an asset that used their rows holds its own copy. Deleting them costs time, never a result.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from ftplatform.canonical import sha256_hex
from ftplatform.store.backend import Backend
from ftplatform.store.names import asset_name

#: Pieces are small; reading many is waiting for answers, not for bytes.
_READERS = 16
_SUFFIX = ".parquet"

_log = logging.getLogger(__name__)


class Recording:
    """An append-only table. Safe to append to from several processes: equal rows written twice are one piece.

    Args:
        backend: where it is kept.
        folder: below which key, such as ``answers/<digest>``.
        schema: of every piece.
    """

    def __init__(self, backend: Backend, folder: str, schema: pa.Schema) -> None:
        self._backend = backend
        self._folder = asset_name(folder)
        self._schema = schema

    def read(self) -> pa.Table:
        """All rows ever appended, in the order of the pieces' names. A damaged piece is passed over with a warning."""
        keys = sorted(entry.key for entry in self._backend.list(f"{self._folder}/") if entry.key.endswith(_SUFFIX))
        with ThreadPoolExecutor(_READERS) as pool:
            pieces = [piece for piece in pool.map(self._piece, keys) if piece is not None]
        return pa.concat_tables([self._schema.empty_table(), *pieces])

    def append(self, rows: pa.Table) -> None:
        """Keep `rows`, durably, before this returns. Nothing is written for an empty table."""
        import pyarrow.parquet as pq

        if not rows.num_rows:
            return
        sink = pa.BufferOutputStream()
        pq.write_table(rows.cast(self._schema), sink, compression="zstd", write_page_checksum=True)
        data = sink.getvalue().to_pybytes()
        name = sha256_hex(data)
        self._backend.ensure(f"{self._folder}/{name}{_SUFFIX}", data, name)

    def _piece(self, key: str) -> pa.Table | None:
        import pyarrow.parquet as pq

        stored = self._backend.get(key)
        if stored is None:  # deleted since it was listed
            return None
        if sha256_hex(stored.data) == key.rsplit("/", 1)[-1].removesuffix(_SUFFIX):
            table = pq.read_table(pa.BufferReader(stored.data))
            if table.schema.equals(self._schema):
                return table
        _log.warning("%s/%s is damaged or of another version; what it held is got again", self._backend.url, key)
        return None
