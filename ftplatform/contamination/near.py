"""`contamination_near`: no eval item may stand in the training data with light edits, inside longer text, or in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.contamination.doors import door
from ftplatform.contamination.near_evidence import marked
from ftplatform.contamination.near_frames import SLOT_ITEMS, SLOT_REPLIES, SLOT_ROWS, SLOT_TOKENS, other_fillings
from ftplatform.contamination.near_items import ANSWER, SEED, NearRule, Probes, probes_of, spoken
from ftplatform.contamination.near_matching import TIERS, Matches, near_hits
from ftplatform.contamination.sides import nothing_to_compare
from ftplatform.errors import InputDataError
from ftplatform.rows.normalize import normalize_text
from ftplatform.rows.schema import Role
from ftplatform.statistics.intervals import exact, wilson
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "contamination_near/2"

_REMEDY = (
    "Remove the named training rows (`near_leaks` lists them all), or retire the eval items and write new ones; then close the door"
    " they came through."
)
_EXCERPT = 240
_SLOT_RULE = {"slot_items": SLOT_ITEMS, "slot_rows": SLOT_ROWS, "slot_replies": SLOT_REPLIES, "slot_tokens": SLOT_TOKENS}


def contamination_near(train: pa.Table, evals: Mapping[str, pa.Table], rule: NearRule | None = None) -> Verdict:
    """No eval item may stand in the training data nearly or in part; see `near_matching` for what counts.

    System and tool text is left out by role, template text by its frequency, a row that fills an item's template with other words by
    `near_frames`; a system prompt counts only where it holds several
    items, as a few-shot prompt does.

    Args:
        train: table of `ROW_SCHEMA`; user and assistant turns are read, masked ones included.
        evals: the eval sets by name, tables of `ROW_SCHEMA`.

    Returns:
        Verdict whose estimate is the contaminated share of the checkable items, with a Wilson interval for the reader. It fails on
        any short item, on a share above `max_share`, and for vault sets on an upper confidence bound (Clopper-Pearson) above it;
        a vault too small to show that bound, or too many items with nothing to compare, is insufficient evidence. Every hit names
        eval set, item, a training row, how many rows match, the tier, the share of the item's words found and the door.

    Raises:
        InputDataError: if the rule names a vault set that is not among `evals`.
    """
    rule = rule or NearRule()
    unknown = sorted((rule.vault_sets | rule.held_out_sets) - evals.keys())
    if unknown:
        raise InputDataError(
            f"Not among the eval sets: {', '.join(unknown)}.", remedy="Correct the names in vault_sets and held_out_sets."
        )
    common: dict[str, Any] = {
        "statistic": "share of eval items found nearly or in part in the training data",
        "threshold": rule.max_share,
        "n_required": 1,
        "baseline": ", ".join(sorted(evals)) or None,
        "check_version": CHECK_VERSION,
        "config": {**rule.record(), **_SLOT_RULE},
        "tier": "n-gram",
        "remedy": _REMEDY,
    }
    if (verdict := nothing_to_compare(train, evals, common)) is not None:
        return verdict
    found_in = [_Comparison.of(train, name, table, rule) for name, table in evals.items()]
    items = pl.concat([comparison.items for comparison in found_in])
    sets = {comparison.eval_set: comparison.counts for comparison in sorted(found_in, key=lambda c: c.eval_set)}
    n, total = sum(s["checkable"] for s in sets.values()), sum(s["items"] for s in sets.values())
    details = {
        "eval_sets": sets,
        "by_tier": {TIERS[tier]: count for tier, count in sorted(items.group_by("tier").len().iter_rows())},
        "by_door": dict(sorted(items.group_by("door").len().iter_rows())),
        "checked_by": dict(sum((Counter(_checked_by(c.probes, rule)) for c in found_in), Counter())),
        "uncheckable_share": (total - n) / total,
        **{reason: sum(c.left_out[reason] for c in found_in) for reason in found_in[0].left_out},
        "template_tokens_left_out": sum(int((~c.probes.own).sum()) for c in found_in),
        "training_rows": train.num_rows,
    }
    common |= {"n": n, "details": details}
    if n:
        interval = wilson(len(items), n)
        common |= {
            "estimate": interval.estimate,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "confidence": interval.confidence,
        }
        common["plot"] = _plot(sets, rule)
        common["evidence"] = _evidence(items, {c.eval_set: c.probes for c in found_in}, train, evals)
    found = f"{len(items):,} of {n:,} eval items stand nearly or in part in the training data"
    over = {name: s for name, s in sets.items() if s["short_contaminated"] or s["share"] > rule.max_share or s["too_many"]}
    if over:
        worst = max(over, key=lambda name: over[name]["share"])
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{found}; worst set {worst}: {sets[worst]['contaminated']:,} of {sets[worst]['checkable']:,}.",
            **common,
        )
    if n == 0 or (total - n) / total > rule.max_uncheckable:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{total - n:,} of {total:,} eval items have no words of their own to compare.",
            **{**common, "remedy": "Give every eval item its question as a user message."},
        )
    small = [name for name in sorted(rule.vault_sets) if (sets[name]["upper"] or 0) > rule.max_share]
    if small:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Vault set {small[0]} has {sets[small[0]]['long']:,} items of {rule.short_tokens} tokens or more: at most"
            f" {sets[small[0]]['upper']:.2%} are contaminated, which does not show {rule.max_share:.2%}.",
            **{**common, "remedy": "Enlarge the vault, or set max_share to what its size can show."},
        )
    return Verdict(decision=Decision.PASS, summary=f"{found}, in {train.num_rows:,} rows.", **common)


def near_leaks(train: pa.Table, evaluation: pa.Table, rule: NearRule | None = None) -> pa.Table:
    """What must leave training for `contamination_near` to hold against `evaluation`, rows held out of the same data.

    Returns:
        Table with `row_id` of each training row that matches, `eval_row_id` (the item it matches best) and `part` (the tier).
    """
    rule = rule or NearRule(held_out_sets=frozenset({"eval"}))
    if not train.num_rows or not evaluation.num_rows:
        return pa.table({name: pa.array([], pa.string()) for name in ("row_id", "eval_row_id", "part")})
    probes = probes_of(train, {"eval": evaluation}, rule)
    hits, _ = _counted(near_hits(train, probes, rule), train, probes, rule)
    items = probes.items.group_by("probe").agg(item=pl.col("row").min())
    best = hits.sort("row", "tier", "matched", descending=[False, False, True]).unique("row", keep="first", maintain_order=True)
    best = best.join(items, on="probe", how="left", maintain_order="left")
    columns = {
        "row_id": train["row_id"].take(best["row"].to_arrow()),
        "eval_row_id": evaluation["row_id"].take(best["item"].to_arrow()),
        "part": pa.array([TIERS[tier] for tier in best["tier"]], pa.string()),
    }
    return pa.table(columns)


@dataclass(frozen=True)
class _Comparison:
    """One eval set against the training rows, alone: which other sets there are must not decide what is rare or a template in it.

    Attributes:
        items: see `_items`. counts: see `_per_set`.
        left_out: answers of a closed set; hits that fill a template otherwise than the item.
    """

    eval_set: str
    probes: Probes
    items: pl.DataFrame
    counts: dict[str, Any]
    left_out: dict[str, int]

    @classmethod
    def of(cls, train: pa.Table, eval_set: str, table: pa.Table, rule: NearRule) -> _Comparison:
        evals = {eval_set: table}
        probes = probes_of(train, evals, rule)
        hits, left_out = _counted(near_hits(train, probes, rule), train, probes, rule)
        items = _items(hits, probes, train, evals)
        return cls(eval_set, probes, items, _per_set(items, probes, evals, rule)[eval_set], left_out)


def _counted(found: Matches, train: pa.Table, probes: Probes, rule: NearRule) -> tuple[pl.DataFrame, dict[str, int]]:
    """Hits that count, with `several` (the text holds two items side by side), and how many were left out, by reason."""
    others = other_fillings(found.hits, found.gaps, train, probes, rule)
    hits = found.hits.join(others, on=["row", "side", "probe"], how="anti", maintain_order="left")
    prompt = hits["side"] != str(Role.ASSISTANT)
    hits = hits.with_columns(
        several=prompt & (pl.col("begin").max() >= pl.col("end").min()).over("row", "side", "turn"),
        part=probes.texts["part"].gather(hits["probe"]),
    )
    hits = hits.filter((pl.col("side") != str(Role.SYSTEM)) | pl.col("several"))
    answers = hits.filter(pl.col("part") == ANSWER)
    rows = answers["row"].unique().sort()
    asked, owners = spoken(train.take(rows.to_arrow()), Role.USER)
    questions = pl.DataFrame({"at": owners, "question": asked}).group_by("at").agg(pl.col("question").str.join("\n"))
    questions = questions.select("question", row=rows.gather(questions["at"]))
    closed = answers.join(questions, on="row").group_by("probe").agg(pl.col("question").n_unique())
    closed = closed.filter(pl.col("question") >= rule.closed_set_questions)["probe"]
    left_out = {"closed_set_answers_not_counted": len(closed), "other_fillings_of_templates_not_counted": len(others)}
    return hits.filter((pl.col("part") != ANSWER) | ~pl.col("probe").is_in(closed.implode())), left_out


def _items(hits: pl.DataFrame, probes: Probes, train: pa.Table, evals: Mapping[str, pa.Table]) -> pl.DataFrame:
    """One line per contaminated item: its best match with the door, and in how many training rows it was found."""
    each = probes.items.join(hits, on="probe").rename({"row": "item", "row_right": "row"})
    best = each.sort("eval_set", "item", "tier", "matched", "row", descending=[False, False, False, True, False])
    items = best.group_by("eval_set", "item", maintain_order=True).agg(pl.all().first(), rows=pl.col("row").n_unique())
    doors = [
        door(evals[name], item, train, row, several=several)
        for name, item, row, several in items.select("eval_set", "item", "row", "several").iter_rows()
    ]
    return items.with_columns(door=pl.Series(doors, dtype=pl.String))


def _per_set(items: pl.DataFrame, probes: Probes, evals: Mapping[str, pa.Table], rule: NearRule) -> dict[str, dict[str, Any]]:
    """Counts of each eval set. An item is long if any text of it is; it is checkable if any has words of its own."""
    size = pl.Series("size", probes.totals(probes.own))
    sizes = probes.items.with_columns(size=size.gather(probes.items["probe"])).group_by("eval_set", "row").agg(pl.col("size").max())
    sizes = sizes.filter(pl.col("size") > 0).rename({"row": "item"})
    sizes = sizes.join(items.select("eval_set", "item", hit=pl.lit(True)), on=["eval_set", "item"], how="left")
    result: dict[str, dict[str, Any]] = {}
    for name in sorted(evals):
        own = sizes.filter(pl.col("eval_set") == name)
        long = own.filter(pl.col("size") >= rule.short_tokens)
        contaminated, long_hits = own["hit"].count(), long["hit"].count()
        upper = exact(long_hits, len(long), rule.confidence, alternative="upper").high if len(long) else None
        result[name] = {
            "items": evals[name].num_rows,
            "checkable": len(own),
            "contaminated": contaminated,
            "long": len(long),
            "short_contaminated": contaminated - long_hits,
            "share": contaminated / max(1, len(own)),
            "upper": upper,
            "too_many": name in rule.vault_sets and long_hits > 0 and upper is not None and upper > rule.max_share,
        }
    return result


def _checked_by(probes: Probes, rule: NearRule) -> dict[str, int]:
    """How many distinct texts each rule can find; those without words of their own are uncheckable."""
    size, whole = probes.totals(probes.own), probes.lengths
    short = (size > 0) & (size < rule.short_tokens)
    return {
        "run, containment and edited": int((size >= rule.short_tokens).sum()),
        "exact (whole user turn)": int((short & (whole < SEED)).sum()),
        "exact and containment": int((short & (whole >= SEED)).sum()),
        "none": int((size == 0).sum()),
    }


def _evidence(
    items: pl.DataFrame, probes: Mapping[str, Probes], train: pa.Table, evals: Mapping[str, pa.Table]
) -> list[dict[str, Any]]:
    # A few of every set and tier rather than twenty of the first.
    turn = pl.int_range(pl.len()).over("eval_set", "tier")
    chosen = items.with_columns(turn=turn).sort("turn", "eval_set", "tier").head(MAX_EVIDENCE)
    rows = []
    for hit in chosen.iter_rows(named=True):
        messages = train["messages"][hit["row"]].as_py()
        turns = [message["content"] for message in messages if message["role"] == hit["side"]]
        written, asked = "\n".join(turns), probes[hit["eval_set"]].texts["text"][hit["probe"]]
        common = set(normalize_text(asked).split()) & set(normalize_text(written).split()[hit["begin"] : hit["end"]])
        rows.append(
            {
                "eval_set": hit["eval_set"],
                "eval_row_id": evals[hit["eval_set"]]["row_id"][hit["item"]].as_py(),
                "part": hit["part"],
                "train_row_id": train["row_id"][hit["row"]].as_py(),
                "train_rows": hit["rows"],
                "found_in": hit["side"],
                "tier": TIERS[hit["tier"]],
                "matched_words": round(hit["matched"], 3),
                "door": hit["door"],
                "eval_text": marked(asked, common, _EXCERPT),
                "train_text": marked(written, common, _EXCERPT, hit["begin"], hit["end"]),
            }
        )
    return rows


def _plot(sets: Mapping[str, Mapping[str, Any]], rule: NearRule) -> str:
    rows = []
    for name in sorted(sets, key=lambda name: -sets[name]["share"]):
        found, n = sets[name]["contaminated"], sets[name]["checkable"]
        if n:
            interval = wilson(found, n)
            rows.append((f"{name} ({found}/{n})", interval.estimate, interval.low, interval.high))
    title = "Eval items found nearly or in part in the training data"
    return plots.forest(rows, threshold=rule.max_share, title=title, x_label="share of items")
