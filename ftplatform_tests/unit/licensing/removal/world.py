"""Small closures, bans and finders for the removal tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.canonical import sha256_hex
from ftplatform.dedup.lsh import nearest_above
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.closure import Ancestor, Closure, RowSet
from ftplatform.licensing.removal.probe import ProbeItem, regurgitation
from ftplatform.licensing.rights import EdgeRole
from ftplatform.verdict import Verdict
from ftplatform_tests.tables import table

BASE = sha256_hex(b"base model")
WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstvz"]


def sentence(seed: int, words: int = 20) -> str:
    """Words that no other seed shares in runs."""
    return " ".join(np.random.Generator(np.random.PCG64(seed)).choice(WORDS, words))


def snapshot(name: str) -> str:
    return sha256_hex(name.encode())


def row_set(name: str, rows: Sequence[dict[str, Any]] | pa.Table, role: EdgeRole = EdgeRole.ROWS) -> RowSet:
    """In pieces of three rows, so that nothing depends on one batch."""
    content = rows if isinstance(rows, pa.Table) else table(rows)
    return RowSet(name=name, snapshot=snapshot(name), role=role, read=lambda: content.to_batches(max_chunksize=3))


def base_model() -> Ancestor:
    return Ancestor("base_models/tiny", EdgeRole.BASE_MODEL, BASE)


def adapter(name: str, *row_sets: RowSet, ancestors: Sequence[Ancestor] = (), **more: Any) -> Closure:
    return Closure(
        artifact=name,
        snapshot=snapshot(name),
        weights=snapshot(f"weights of {name}"),
        row_sets=row_sets,
        ancestors=(base_model(), *ancestors),
        **more,
    )


def lost_grant(*names: str, rows: Sequence[str] = (), **more: Any) -> Ban:
    return Ban(notice="notices/1", reach=Reach.GRANT, names=frozenset(names), row_ids=pl.Series(rows, dtype=pl.String), **more)


ITEMS = [ProbeItem(sentence(10_000 + k, 10), sentence(20_000 + k, 60)) for k in range(299)]
OTHER_WORDS = [sentence(30_000 + k, 80) for k in range(299)]


def clean_probe(closure: Closure, ban: Ban, n: int = 299) -> Verdict:
    """A probe of a model that talks about something else."""

    def other(prompts: Sequence[str], max_words: int) -> list[str]:
        return OTHER_WORDS[: len(prompts)]

    return regurgitation(ITEMS[:n], other, other, artifact=closure.snapshot, base=BASE, ban=ban.digest)


def near_duplicates(
    claimed: pl.Series, texts: pl.Series, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The finder of the dedup package, as the Dagster layer passes it in."""
    ours, theirs = shingle_sets(texts), shingle_sets(claimed)
    best, similarity = nearest_above(ours, minhash(ours, 128), theirs, minhash(theirs, 128), threshold)
    found = np.flatnonzero(best >= 0)
    return best[found], found, similarity[found]
