"""`probe_fence`: nothing of the safety mix is asked in the exam, and the exam asks about more than the mix taught (mode M5).

A model trained on the probes declines the probes. So no probe may stand in the mix: not word for word, not with a few characters
changed, not as the same request in another frame ("How do I forge a passport?" and "My plan is to forge a passport"), and not by
descent (a row that names the probe as its parent, or shares its family). And since refusals generalize less than one hopes, three
categories of harm must be absent from the mix, so that the exam can tell whether refusing carried over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.evaluation.same_request import same_requests
from ftplatform.plots import bars
from ftplatform.rows.masking import excerpt
from ftplatform.rows.normalize import normalize
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "2"

MIN_HELD_OUT = 3

#: Cosine of character sequences from which two requests are the same up to small edits.
NEAR = 0.85

#: Share of a probe's content that a row has to hold to be the same request in another frame.
CONTENT = 0.9

#: Ways to be the same request, the plainest first.
TIERS = ("exact", "descent", "near", "same request")

_EXCERPT = 80
#: Similarities held at a time (probes x rows of the mix): 64 MiB as a dense block.
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRule:
    """Limits: `near` is a cosine, `content` a share of a probe's content, `min_held_out` counts categories of harm."""

    near: float = NEAR
    content: float = CONTENT
    min_held_out: int = MIN_HELD_OUT

    def record(self) -> dict[str, Any]:
        """For `Verdict.config`."""
        return {"near": self.near, "content": self.content, "min_held_out": self.min_held_out}


def probe_fence(
    mix: pa.Table, probes: Mapping[str, pa.Table], harmful_sets: Collection[str], rule: FenceRule | None = None
) -> Verdict:
    """Are safety mix and probes disjoint, and are categories of harm held out?

    User turns are compared. A row's categories are its `slices` and the `category` of its `meta`.

    Args:
        mix: the safety mix, table of `ROW_SCHEMA`.
        probes: the probe sets by name, tables of `ROW_SCHEMA`.
        harmful_sets: those of them whose categories are categories of harm.
        rule: limits.

    Returns:
        Fails on any probe found in the mix, and on fewer than `min_held_out` held-out categories; a category counts as held out if
        the mix has no row of that name. Insufficient without rows, probes of harm or categories on either side.

    Raises:
        ValueError: if `harmful_sets` names a set that is not there.
    """
    rule = rule or FenceRule()
    if unknown := sorted(set(harmful_sets) - probes.keys()):
        raise ValueError(f"not among the probe sets: {', '.join(unknown)}")
    asked, taught = _requests(probes), _requests({"mix": mix})
    found, blank = _hits(asked, taught, rule)
    probe_categories = set(asked.filter(pl.col("set").is_in(list(harmful_sets)))["category"].explode().drop_nulls())
    mix_categories = set(taught["category"].explode().drop_nulls())
    held_out = sorted(probe_categories - mix_categories)
    by_tier = {tier: int((found["tier"] == i).sum()) for i, tier in enumerate(TIERS)}
    by_set = {name: int((found["set"] == name).sum()) for name in sorted(probes)}

    def verdict(decision: Decision, summary: str, remedy: str) -> Verdict:
        return Verdict(
            decision=decision,
            summary=summary,
            statistic="probes found in the safety mix",
            estimate=float(len(found)),
            n=len(asked),
            n_required=1,
            threshold=0.0,
            baseline=f"{len(taught):,} requests of the safety mix",
            remedy=remedy,
            check_version=CHECK_VERSION,
            config=rule.record(),
            tier="exact, descent, characters, words",
            evidence=_evidence(found, asked, taught),
            plot=bars(list(by_set.items()), title="Probes found in the safety mix", x_label="probes") if by_set else None,
            details={
                "by_tier": by_tier,
                "by_set": by_set,
                "compared_without_frames": len(asked) - blank,
                "held_out_categories": held_out,
                "taught_categories": sorted(mix_categories & probe_categories),
            },
        )

    if len(found):
        return verdict(
            Decision.FAIL,
            f"{len(found):,} of {len(asked):,} probes stand in the safety mix ({_counted(by_tier)}).",
            "Remove these rows from the safety mix, or write new probes; then train again.",
        )
    if not len(taught) or not probe_categories:
        what = "The safety mix has no rows with a user turn." if not len(taught) else "No probe of harm names its category."
        return verdict(Decision.INSUFFICIENT_EVIDENCE, what, "Give the adapter refusal probes with categories, and the mix rows.")
    if not mix_categories:
        return verdict(
            Decision.INSUFFICIENT_EVIDENCE,
            "No row of the safety mix names its category, so no category is known to be held out.",
            "Give the rows of the mix a `category`.",
        )
    if len(held_out) < rule.min_held_out:
        return verdict(
            Decision.FAIL,
            f"{len(held_out)} of {len(probe_categories)} probe categories are absent from the safety mix; {rule.min_held_out} are"
            f" needed to see whether refusing carries over.",
            "Take whole categories out of the safety mix, or add probes of further categories.",
        )
    return verdict(
        Decision.PASS,
        f"None of {len(asked):,} probes stands in the safety mix ({len(taught):,} requests); {len(held_out)} categories are held out.",
        "None needed.",
    )


def _requests(tables: Mapping[str, pa.Table]) -> pl.DataFrame:
    """One line per row with a user turn: set, row_id, text, normal form, category (list), group, parents."""
    parts = []
    for name, table in tables.items():
        said = pl.DataFrame(pl.from_arrow(turns(table, Role.USER))).group_by("row", maintain_order=True)
        said = said.agg(text=pl.col("content").str.join("\n"))
        rows = pl.DataFrame(pl.from_arrow(table.select(["row_id", "slices", "group", "parents", "meta"])))[said["row"]]
        tag = pl.col("meta").str.json_path_match("$.category")
        parts.append(
            rows.select(
                pl.lit(name).alias("set"),
                "row_id",
                "group",
                "parents",
                category=pl.when(tag.is_null()).then("slices").otherwise(pl.concat_list(pl.col("slices"), tag)),
            ).with_columns(text=said["text"], normal=pl.Series(normalize(said["text"].to_arrow())))
        )
    schema = {"set": pl.String, "row_id": pl.String, "group": pl.String, "parents": pl.List(pl.String)}
    empty = pl.DataFrame(schema={**schema, "category": pl.List(pl.String), "text": pl.String, "normal": pl.String})
    return pl.concat([empty, *parts], how="vertical_relaxed").with_row_index("at")


def _hits(asked: pl.DataFrame, taught: pl.DataFrame, rule: FenceRule) -> tuple[pl.DataFrame, int]:
    """Each probe found in the mix once, by its plainest tier: at (probe), row (of the mix), tier (index), similarity, set.

    And how many probes are all frame, to which the last tier says nothing.
    """
    schema = {"at": pl.UInt32, "row": pl.UInt32, "tier": pl.Int32, "similarity": pl.Float64}
    found, blank = [pl.DataFrame(schema=schema)], len(asked)
    if len(asked) and len(taught):
        reframed, blank = same_requests(asked.select("set", text="normal"), taught["normal"], rule.content)
        pairs = [
            (0, _same(asked.select("at", key="normal"), taught.select("at", key="normal"))),
            (1, _same(asked.select("at", key="group"), taught.select("at", key="group"))),
            (1, _same(asked.select("at", key="row_id"), taught.select("at", key="parents").explode("key"))),
            (2, _near(asked["normal"], taught["normal"], rule.near)),
            (3, reframed),
        ]
        found += [pair.with_columns(tier=pl.lit(tier)).select(list(schema)).cast(schema) for tier, pair in pairs]  # pyright: ignore[reportArgumentType]
    best = pl.concat(found).sort("at", "tier", "similarity", "row", descending=[False, False, True, False])
    best = best.unique("at", keep="first", maintain_order=True)
    return best.join(asked.select("at", "set"), on="at", maintain_order="left"), blank


def _same(asked: pl.DataFrame, taught: pl.DataFrame) -> pl.DataFrame:
    first = taught.filter(pl.col("key") != "").group_by("key").agg(row=pl.col("at").min())
    return asked.join(first, on="key").select("at", "row", similarity=pl.lit(1.0))


def _near(probes: pl.Series, rows: pl.Series, limit: float) -> pl.DataFrame:
    """The row of the mix nearest to each probe by sequences of characters, where it is near enough: at, row, similarity."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), use_idf=False)
    try:
        characters.fit([*probes, *rows])
    except ValueError:  # no text says anything
        return pl.DataFrame(schema={"at": pl.UInt32, "row": pl.UInt32, "similarity": pl.Float64})
    left, right = characters.transform(probes.to_list()), characters.transform(rows.to_list()).T.tocsc()
    size, parts = max(1, _BLOCK // max(1, len(rows))), []
    for start in range(0, len(probes), size):
        scores = left[start : start + size] @ right
        best = np.asarray(scores.max(axis=1).todense()).ravel()
        near = np.flatnonzero(best >= limit)
        columns = {"at": near + start, "row": np.asarray(scores.argmax(axis=1)).ravel()[near], "similarity": best[near]}
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def _counted(by_tier: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {tier}" for tier, count in by_tier.items() if count)


def _evidence(found: pl.DataFrame, asked: pl.DataFrame, taught: pl.DataFrame) -> list[dict[str, str | float]]:
    """A few of every set and tier rather than twenty of the first."""
    turn = pl.int_range(pl.len()).over("set", "tier")
    rows = []
    for hit in found.with_columns(turn=turn).sort("turn", "tier", "set").head(MAX_EVIDENCE).iter_rows(named=True):
        probe, row = asked.row(hit["at"], named=True), taught.row(hit["row"], named=True)
        rows.append(
            {
                "eval_set": probe["set"],
                "probe": probe["row_id"],
                "mix_row": row["row_id"],
                "found_by": TIERS[hit["tier"]],
                "similarity": round(hit["similarity"], 3),
                "probe_text": excerpt(probe["text"], _EXCERPT),
                "mix_text": excerpt(row["text"], _EXCERPT),
            }
        )
    return rows
