"""What a stored signature was made with: without it, old and new signatures compare without error and mean nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.errors import InputDataError
from ftplatform.kernels.hashing import WORD_RULE
from ftplatform.kernels.minhash import SCHEME
from ftplatform.kernels.shingles import WIDTH

SCHEMA = 1
_KEY = b"ftplatform.sketch"
_REMEDY = "Sketch the texts again with the present settings."


class SketchMismatch(InputDataError):
    """Stored signatures were made in another way than those they are to be compared with."""


@dataclass(frozen=True)
class SketchHeader:
    """Everything a signature depends on besides its text.

    Attributes:
        num_perm, seed: of the permutations.
        bands, rows: banding the signatures are meant for.
        width: words per shingle.
        scheme: how permutations are drawn and applied (datasketch's name for it).
        word_rule: version of the rule that makes words and their hashes.
        schema: version of this record.
    """

    num_perm: int
    seed: int
    bands: int
    rows: int
    width: int = WIDTH
    scheme: str = SCHEME
    word_rule: int = WORD_RULE
    schema: int = SCHEMA

    def require(self, expected: SketchHeader, name: str) -> None:
        """Raise unless equal to `expected`; `name` says whose header this is.

        Raises:
            SketchMismatch: naming every field that differs.
        """
        own, wanted = asdict(self), asdict(expected)
        different = [f"{field} {own[field]!r} instead of {wanted[field]!r}" for field in own if own[field] != wanted[field]]
        if different:
            raise SketchMismatch(f"The signatures of {name} have {', '.join(different)}.", remedy=_REMEDY)


def signature_table(header: SketchHeader, ids: pa.Array, signatures: NDArray[np.uint32]) -> pa.Table:
    """Table of `id` and `signature` (fixed-size list of uint32), the header in its metadata; for the caller to store."""
    flat = pa.array(signatures.reshape(-1))
    table = pa.table({"id": ids, "signature": pa.FixedSizeListArray.from_arrays(flat, header.num_perm)})
    return table.replace_schema_metadata({_KEY: json.dumps(asdict(header), sort_keys=True).encode()})


def read_signatures(table: pa.Table, expected: SketchHeader, name: str) -> tuple[pa.ChunkedArray, NDArray[np.uint32]]:
    """Ids and signatures, (n, num_perm), of a table of `signature_table`.

    Raises:
        SketchMismatch: the table `name` has no header, one that cannot be read, or one that differs from `expected`.
    """
    try:
        header = SketchHeader(**json.loads((table.schema.metadata or {})[_KEY]))
    except (KeyError, TypeError, ValueError) as problem:
        raise SketchMismatch(f"{name} has no readable header of signatures.", remedy=_REMEDY) from problem
    header.require(expected, name)
    column = table["signature"].combine_chunks()
    if column.type != pa.list_(pa.uint32(), header.num_perm) or column.null_count:
        raise SketchMismatch(f"{name} holds {column.type} instead of {header.num_perm} uint32 a row.", remedy=_REMEDY)
    values = column.flatten().to_numpy().astype(np.uint32, copy=False)
    return table["id"], values.reshape(-1, header.num_perm)
