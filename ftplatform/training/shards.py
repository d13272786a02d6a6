"""Which rows train which shard, so that the removal of a source retrains one (SISA, Bourtoule et al. 2021, aligned with sources).

Random shards buy nothing here: a source of many rows touches all of them. Whole sources are packed instead, and a source that has
been packed stays where it is when others come or go.

How a row is placed follows from how it falls. It can stand on any one of its *origins*, so it is copied into the shard of each:
whichever origin goes, the other shard already holds the row and does not change. It falls with any of its *parents*, so a derived
row lies with a parent rather than with the set it was published in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.training.launchers import Launcher, launch
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.merge import merge_adapters
from ftplatform.training.train import TrainingResult

SCHEMA = "ftplatform.shards/1"

#: Name of the shard of the sources that are kept apart.
SEPARATE = "separate"

_PROVENANCE = {"row_id": pl.String(), "origins": pl.List(pl.String), "parents": pl.List(pl.String)}


def assign(
    rows_of: Mapping[str, int], *, count: int, separate: Collection[str] = (), previous: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Shard of every source, by source.

    Sources in `separate` share the shard `SEPARATE`. Others stay where `previous` has them; new ones are packed largest first, each
    onto the shard with the fewest rows (longest processing time, Graham 1969). Ties go to the smaller name.

    Args:
        rows_of: training rows by source.
        count: how many shards the sources that are not separate are packed into, named ``00``, ``01``, ...
        previous: the assignment of the last time with the same `count`; shards it names that do not exist are ignored.
    """
    load = {f"{number:02d}": 0 for number in range(count)}
    result = {source: SEPARATE for source in rows_of if source in separate}
    for source, shard in (previous or {}).items():
        if source in rows_of and source not in result and shard in load:
            result[source] = shard
            load[shard] += rows_of[source]
    for source in sorted(rows_of.keys() - result.keys(), key=lambda name: (-rows_of[name], name)):
        shard = min(load, key=lambda name: (load[name], name))
        result[source] = shard
        load[shard] += rows_of[source]
    return dict(sorted(result.items()))


def supports(rows: pa.Table, upstream: Mapping[str, pa.Table] | None = None, separate: Collection[str] = ()) -> pl.Series:
    """The sources with which a row is placed, any one of which keeps it: its origins, or those of a parent it was derived from.

    A derived row needs its own set and each of its parents; what is in `separate` throughout decides, then a parent, then the
    smallest names. Parents that stand nowhere (teacher models, rows that were never ours) decide nothing.

    Args:
        rows: training rows; columns `row_id`, `origins` and `parents` are read.
        upstream: tables in which parents may stand, by source, with the same columns. A parent may also be the source itself.

    Returns:
        Sorted names of each row, list of strings, shape (n,), named `support`.
    """
    own = _provenance(rows)
    # A row of ours is known by what it still rests on, and not by origins that were struck.
    others = [_provenance(table).join(own, on="row_id", how="anti") for table in (upstream or {}).values()]
    sources = [{"row_id": source, "origins": [source], "parents": []} for source in upstream or {}]
    known = (
        pl.concat([own, *others, pl.DataFrame(sources, schema=_PROVENANCE)])
        .group_by("row_id")
        .agg(pl.col("origins", "parents").explode(keep_nulls=False, empty_as_null=False).unique().sort())
    )
    links = known.select("row_id", parent="parents").explode("parent", keep_nulls=False, empty_as_null=False)
    links = links.join(known.select(parent="row_id"), on="parent", how="semi").filter(pl.col("row_id") != pl.col("parent"))
    own_names = known.select("row_id", support="origins")
    settled = own_names.join(links, on="row_id", how="anti")
    apart = pl.col("support").list.eval(pl.element().is_in(list(separate))).list.all()
    while links.height:
        # One generation per round. A circle of parents never becomes ready; its rows count by their own origins.
        of_parents = links.join(settled, left_on="parent", right_on="row_id", how="left").select("row_id", "support")
        ready = of_parents.filter(pl.col("support").is_not_null().all().over("row_id"))
        if not ready.height:
            settled = pl.concat([settled, own_names.join(settled, on="row_id", how="anti")])
            break
        choices = pl.concat([ready.with_columns(own=False), own_names.join(ready, on="row_id", how="semi").with_columns(own=True)])
        choices = choices.sort("row_id", ~apart, "own", pl.col("support").list.join("\x1f"))
        settled = pl.concat([settled, choices.group_by("row_id", maintain_order=True).agg(pl.col("support").first())])
        links = links.join(settled, on="row_id", how="anti")
    return own.select("row_id").join(settled, on="row_id", how="left", maintain_order="left")["support"]


def rows_by_source(support: pl.Series) -> dict[str, int]:
    """How many rows each source keeps, by source; a row that several keep counts for each."""
    counts = support.explode(keep_nulls=False, empty_as_null=False).value_counts().sort(support.name)
    return dict(counts.iter_rows())


def split_by_shard(rows: pa.Table, support: pl.Series, assignment: Mapping[str, str]) -> dict[str, pa.Table]:
    """Rows of every shard that has some, by shard, ordered by `row_id`.

    The order matters to the trainer, and the order of the mix will not do: a merged row stands where its first copy stood, so striking
    that origin would move the row inside a shard that keeps it.

    Args:
        support: of `rows`, see `supports`.
        assignment: shard by source, for every name in `support`.

    Raises:
        InputDataError: a row has no origin: no removal could ever find it.
    """
    homeless = (support.list.len() == 0).arg_true()
    if len(homeless):
        raise InputDataError(
            f"row {rows['row_id'][homeless[0]]} has no origin", remedy="Materialize the corpus again; every row names its sources."
        )
    places = (
        pl.DataFrame({"row_id": rows["row_id"], "shard": support})
        .with_row_index("row")
        .explode("shard")
        .with_columns(pl.col("shard").replace_strict(dict(assignment)))
        .unique(["row", "shard"])
        .sort("shard", "row_id")
    )
    return {
        str(shard): rows.take(part["row"].to_arrow())
        for (shard,), part in places.partition_by("shard", as_dict=True, maintain_order=True).items()
    }


def shard_seed(seed: int, shard: str) -> int:
    """A shard's own seed, in [0, 2^31): other shards, and how many there are, have no part in it."""
    return int(sha256_hex(f"{seed}\n{shard}".encode())[:8], 16) >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedResult:
    """What a sharded run produced.

    Attributes:
        folders: finished folder by shard, as `train` writes it.
        merged: folder with the mean of the shards.
        manifest_sha256: `manifests_digest` of the run.
        trained: results of the shards that were trained now, by shard.
    """

    folders: Mapping[str, Path]
    merged: Path
    manifest_sha256: str
    trained: Mapping[str, TrainingResult]


def manifests_digest(manifests: Mapping[str, TrainingManifest]) -> str:
    """SHA-256 (hex) that stands for the manifests of all shards."""
    return digest({"schema": SCHEMA, "shards": {shard: manifest.sha256() for shard, manifest in manifests.items()}})


def train_shards(
    manifests: Mapping[str, TrainingManifest],
    out: Path,
    *,
    ready: Mapping[str, Path] | None = None,
    launcher: Launcher = "in_process",
    progress: Callable[[int, int], None] | None = None,
) -> ShardedResult:
    """Train every shard from the base and merge them.

    Args:
        manifests: by shard, at least one.
        out: new folder; gets `shards/<name>/` for every shard trained now, and `adapter/`.
        ready: folders of shards that were trained by these very manifests before; they are used as they are.
        progress: called with (steps done, steps of all shards to be trained).

    Raises:
        TrainingError, UnsafeModel: as `train` and `merge_adapters`.
    """
    folders = dict(ready or {})
    missing = [shard for shard in sorted(manifests) if shard not in folders]
    total, done = sum(manifests[shard].optimization.steps for shard in missing), 0
    trained: dict[str, TrainingResult] = {}
    for shard in missing:
        # Bound now: the next round has another `done`.
        report = None if progress is None else lambda step, _loss, before=done: progress(before + step, total)
        trained[shard] = launch(manifests[shard], out / "shards" / shard, launcher=launcher, progress=report)
        folders[shard] = trained[shard].folder
        done += manifests[shard].optimization.steps
    merged = out / "adapter"
    merged.mkdir(parents=True)
    merge_adapters(folders, merged)
    return ShardedResult(folders=folders, merged=merged, manifest_sha256=manifests_digest(manifests), trained=trained)


def _provenance(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(table.column(name)) for name in _PROVENANCE}, schema=_PROVENANCE)
