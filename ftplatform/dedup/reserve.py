"""The eval reserve: rows set aside before near-deduplication, stratified by slice, whole groups together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup.slices import SliceSpec, slice_membership
from ftplatform.errors import InputDataError
from ftplatform.rows.normalize import normalize
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns


@dataclass(frozen=True, slots=True)
class ReserveRule:
    """How much is reserved.

    Attributes:
        fraction: share of each slice (and of the rows in none); 0 reserves nothing.
        min_per_slice: at least this many rows of each slice that has twice as many.
        max_rows: upper limit of the whole reserve.
        seed: of the assignment.
        per_source: reserve every family whose hash falls below `fraction`, families ending at their source. What one source gives
            then says nothing about what another does, which shards need (`min_per_slice` and `max_rows` would tie them
            together and are not looked at); slices are met on average only.
    """

    fraction: float = 0.1
    min_per_slice: int = 1
    max_rows: int = 2000
    seed: int = 0
    per_source: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise InputDataError(f"reserve fraction {self.fraction} is not in [0, 1)", remedy="Use a value such as 0.1.")


def families(rows: pa.Table, *, per_source: bool = False) -> NDArray[np.int64]:
    """Rows that must stay together: same conversation or customer (`group` within `source`), or the same user text.

    Args:
        per_source: the same user text in two sources joins nothing.

    Returns:
        Number of each row's family, shape (n,). Families are connected components: a shared question links two customers.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = rows.num_rows
    frame = pl.DataFrame({"source": rows["source"], "group": rows["group"]}).with_row_index("row")
    frame = frame.with_columns(pl.col("row").cast(pl.Int64), question=_questions(rows))
    question = pl.concat_str("source", "question", separator="\x1f") if per_source else pl.col("question")
    links = [
        frame.filter(pl.col("group").is_not_null()).select("row", key=pl.concat_str("source", "group", separator="\x1f")),
        frame.filter(pl.col("question").is_not_null()).select("row", key=question),
    ]
    edges, offset = [], n
    for link in links:
        numbers = link["key"].rank("dense").to_numpy().astype(np.int64) - 1
        edges.append(np.stack([link["row"].to_numpy(), numbers + offset]))
        offset += int(numbers.max(initial=-1)) + 1
    left, right = np.concatenate(edges, axis=1)
    _, labels = connected_components(coo_array((np.ones(len(left), bool), (left, right)), shape=(offset, offset)), directed=False)
    return labels[:n].astype(np.int64)


def reserve_eval(rows: pa.Table, slices: Sequence[SliceSpec] = (), rule: ReserveRule | None = None) -> tuple[pa.Table, pa.Table]:
    """Split rows into training and eval rows.

    Families (`families`) move as a whole, in the order of SHA-256(seed, family name), so that more rows later change little: every
    slice takes its families from the front of one and the same queue until its quota is filled. No slice gives more than half
    of its rows, and a family larger than what is still to be reserved stays in training. With `rule.per_source` see there.

    Args:
        rows: exact-unique table of `ROW_SCHEMA`.

    Returns:
        Training rows and eval rows, both in their old order.
    """
    rule = rule or ReserveRule()
    chosen = reserved_rows(rows, families(rows, per_source=rule.per_source), slices, rule)
    return rows.filter(pa.array(~chosen)), rows.filter(pa.array(chosen))


def reserved_rows(rows: pa.Table, family: NDArray[np.int64], slices: Sequence[SliceSpec], rule: ReserveRule) -> NDArray[np.bool_]:
    """The mask behind `reserve_eval`, for given families."""
    n = rows.num_rows
    if not n or not rule.fraction or not rule.max_rows:
        return np.zeros(n, bool)
    if rule.per_source:
        return _below(rows, family, rule)[family]
    membership = slice_membership(rows, slices)
    homeless = pl.DataFrame({"row": np.arange(n)}).join(membership, on="row", how="anti").with_columns(slice=pl.lit(_HOMELESS))
    strata = pl.concat([membership, homeless])
    strata = strata.with_columns(family=pl.Series(family[strata["row"].to_numpy()]))
    touched = strata.group_by("slice", "family").agg(rows=pl.len().cast(pl.Int64)).sort("slice", "family")
    strata_of: dict[int, list[tuple[str, int]]] = {}
    families_of: dict[str, list[int]] = {}
    for name, member, count in touched.iter_rows():
        strata_of.setdefault(member, []).append((name, count))
        families_of.setdefault(name, []).append(member)
    sizes = dict(strata.group_by("slice").len().iter_rows())
    place, family_sizes = _queue(rows, family, rule.seed), np.bincount(family)
    chosen, taken = np.zeros(len(family_sizes), bool), dict.fromkeys(sizes, 0)

    def fill(name: str, quota: int, limit: int) -> None:
        for member in sorted(families_of[name], key=place.__getitem__):
            room = limit - int(family_sizes[chosen].sum()) if taken[name] < quota else 0
            if room <= 0:
                return
            halves = all(2 * (taken[other] + count) <= sizes[other] for other, count in strata_of[member])
            if not chosen[member] and family_sizes[member] <= room and halves:
                chosen[member] = True
                for other, count in strata_of[member]:
                    taken[other] += count

    share = min(rule.fraction, rule.max_rows / n)
    by_size = sorted(sizes, key=lambda name: (sizes[name], name))
    for name in by_size:
        if sizes[name] >= 2 * rule.min_per_slice:
            fill(name, rule.min_per_slice, rule.max_rows)
    for name in by_size:
        fill(name, round(share * sizes[name]), min(rule.max_rows, math.ceil(share * n)))
    return chosen[family]


def _below(rows: pa.Table, family: NDArray[np.int64], rule: ReserveRule) -> NDArray[np.bool_]:
    """Which families hash below the fraction. One without groups is named by its question, which a copy in another source shares."""
    frame = pl.DataFrame({"family": family, "group": rows["group"], "source": rows["source"], "row_id": rows["row_id"]})
    name = pl.coalesce(pl.col("group").min(), pl.col("question").min(), pl.col("row_id").min())
    frame = frame.with_columns(group=pl.concat_str("source", "group", separator="\x1f"), question=_questions(rows))
    chosen = np.zeros(int(family.max()) + 1, bool)
    for number, named in frame.group_by("family").agg(name=name).iter_rows():
        hashed = hashlib.sha256(f"{rule.seed}\x1f{named}".encode()).digest()
        chosen[number] = int.from_bytes(hashed[:8]) < rule.fraction * 2**64
    return chosen


#: Stratum of the rows in no slice; no slice name may hold a control character.
_HOMELESS = "\x00"


def _queue(rows: pa.Table, family: NDArray[np.int64], seed: int) -> dict[int, int]:
    """Place of each family in the queue, by the hash of its name: its smallest group id, or row id where it has none."""
    names = pl.DataFrame({"family": family, "group": rows["group"], "source": rows["source"], "row_id": rows["row_id"]})
    named = names.group_by("family").agg(
        group=pl.concat_str("source", "group", separator="\x1f").min(), row_id=pl.col("row_id").min()
    )
    hashed = sorted(
        (hashlib.sha256(f"{seed}\x1f{group if group is not None else row_id}".encode()).digest(), number)
        for number, group, row_id in named.iter_rows()
    )
    return {number: place for place, (_, number) in enumerate(hashed)}


def _questions(rows: pa.Table) -> pl.Series:
    """Normalized user text of each row, null where there is none."""
    asked = turns(rows, Role.USER)
    joined = pl.DataFrame({"row": asked["row"], "text": asked["content"]}).group_by("row").agg(pl.col("text").str.join("\n"))
    texts = joined.with_columns(text=pl.Series(normalize(joined["text"].to_arrow()), dtype=pl.String)).filter(pl.col("text") != "")
    index = pl.DataFrame({"row": np.arange(rows.num_rows)}, schema={"row": pl.Int64})
    return index.join(texts, on="row", how="left", maintain_order="left")["text"]
