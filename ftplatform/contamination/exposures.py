"""What is known of each eval item: when it entered its set, who has seen it, and which families must leave the vault.

An item enters with the first refresh that names it; one that no refresh names counts as always there. A view or export exposes the
items it names, whenever that was; one of the whole set exposes what had entered by then.

The family of an item is its `group`; an item without group is a family of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ftplatform.store.access_log import ALL, AccessKind, AccessRecord

_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Demotion:
    """What must leave the vault.

    Attributes:
        families: families of which an item was seen.
        row_ids: all of their items; they move to the working set.
        replacements: new families the vault needs to keep its size.
    """

    families: tuple[str, ...]
    row_ids: tuple[str, ...]
    replacements: int


def families(items: pa.Table) -> pl.DataFrame:
    """Frame (row_id, family, author, created_at) of the items of a set.

    Args:
        items: table of `ROW_SCHEMA`.
    """
    frame = pl.DataFrame({name: items[name] for name in ("row_id", "group", "author", "created_at", "first_seen_at")})
    return frame.select(
        "row_id",
        family=pl.coalesce("group", "row_id"),
        author="author",
        created_at=pl.coalesce(pl.col("created_at").cast(_TIME), pl.col("first_seen_at").cast(_TIME)),
    ).unique("row_id", keep="first", maintain_order=True)


def entered(items: pl.DataFrame, access: Sequence[AccessRecord]) -> pl.DataFrame:
    """`items` (with `row_id`) and `entered`: the time of the first refresh that names the item, null if none does."""
    named = [(item, record.at) for record in access if record.kind is AccessKind.REFRESH for item in record.items]
    first = pl.DataFrame(named, schema={"row_id": pl.String, "entered": _TIME}, orient="row")
    return items.join(first.group_by("row_id").agg(pl.col("entered").min()), on="row_id", how="left", maintain_order="left")


def exposures(items: pa.Table, access: Sequence[AccessRecord]) -> pl.DataFrame:
    """Every time somebody saw an item: row_id, family, at, by, kind, purpose, record, in order of time.

    Args:
        items: table of `ROW_SCHEMA`, the items now in the set.
        access: the ledger of the set.
    """
    seen = [record for record in access if record.item_level]
    schema = {"record": pl.String, "at": _TIME, "by": pl.String, "kind": pl.String, "purpose": pl.String}
    acts = pl.DataFrame([(r.id, r.at, r.by, str(r.kind), r.purpose) for r in seen], schema=schema, orient="row")
    named = pl.DataFrame(
        [(record.id, item) for record in seen if record.items != ALL for item in record.items],
        schema={"record": pl.String, "row_id": pl.String},
        orient="row",
    )
    known = entered(families(items), access).select("row_id", "family", "entered")
    whole = acts.filter(pl.col("record").is_in([record.id for record in seen if record.items == ALL]))
    by_name = known.join(named, on="row_id").join(acts, on="record")
    by_set = known.join(whole, how="cross").filter((pl.col("entered") <= pl.col("at")).fill_null(True))
    return pl.concat([by_name, by_set.select(by_name.columns)]).drop("entered").sort("at", "record", "family", "row_id")


def eval_registry(items: pa.Table, access: Sequence[AccessRecord]) -> pa.Table:
    """The registry of an eval set, one line per item.

    Args:
        items: table of `ROW_SCHEMA`.
        access: the ledger of the set.

    Returns:
        Table with `item_id`, `family`, `created_by`, `created_at` (first seen, where the row does not say), `last_refreshed` (when
        it entered; null if no refresh names it), `exposures` (views and exports that showed it), `last_exposed_at`,
        `last_exposed_by`, `exposed_to` (everybody who saw it) and `decisions` (made on results it was part of).
    """
    shown = (
        exposures(items, access)
        .group_by("row_id")
        .agg(
            exposures=pl.len().cast(pl.Int64),
            last_exposed_at=pl.col("at").last(),
            last_exposed_by=pl.col("by").last(),
            exposed_to=pl.col("by").unique().sort(),
        )
    )
    decided = pl.Series([record.at for record in access if record.kind is AccessKind.DECISION], dtype=_TIME).sort()
    registry = entered(families(items), access).join(shown, on="row_id", how="left", maintain_order="left")
    before = decided.search_sorted(registry["entered"], side="left")
    return (
        registry.with_columns(decisions=pl.when(pl.col("entered").is_null()).then(0).otherwise(before))
        .select(
            item_id="row_id",
            family="family",
            created_by="author",
            created_at="created_at",
            last_refreshed="entered",
            exposures=pl.col("exposures").fill_null(0),
            last_exposed_at="last_exposed_at",
            last_exposed_by="last_exposed_by",
            exposed_to=pl.col("exposed_to").fill_null([]),
            decisions=len(decided) - pl.col("decisions").cast(pl.Int64),
        )
        .to_arrow()
    )


def seen_families(items: pa.Table, access: Sequence[AccessRecord], retired: pa.Table | None = None) -> pl.DataFrame:
    """`exposures` of the families that still have items in the vault.

    Args:
        items: table of `ROW_SCHEMA`, the items now in the vault.
        access: its ledger.
        retired: items that have left it: a sibling that stayed behind is found through them.
    """
    both = items if retired is None else pa.concat_tables([items, retired.cast(items.schema)])
    return exposures(both, access).join(families(items).select("family").unique(), on="family", how="semi", maintain_order="left")


def demoted(items: pa.Table, access: Sequence[AccessRecord], retired: pa.Table | None = None) -> Demotion:
    """The families that must leave the vault because somebody saw one of their items; arguments as in `seen_families`.

    Whether the item had failed does not matter: who opens results looks for the failures, and a ledger cannot say where the eyes
    rested.
    """
    gone = seen_families(items, access, retired)["family"].unique().sort()
    leaving = families(items).join(gone.to_frame(), on="family", how="semi")
    return Demotion(tuple(gone), tuple(leaving["row_id"].sort()), len(gone))
