"""Does every row that feedback gave come through curation?

By construction a dataset can only name curated feedback. What construction cannot see is the same file read a second time as an
ordinary source, a rejected correction pasted into another corpus, or a row of a debug surface; this check looks for them in the rows.

Later steps rewrite rows: cleaning, habits, masking. What a row says of its own descent (origins, parents, metadata) can be written into
any file, so nothing of it is believed: a row counts as made from a curated one if the record of the step that built the dataset says so
of these very texts. Rows are known by the hash of what they say, not by the id they carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.feedback.meta_language import normalized
from ftplatform.plots import bars
from ftplatform.rows.masking import excerpt
from ftplatform.rows.placeholders import as_masked, holds_placeholder
from ftplatform.rows.rewriting import REWRITES_SCHEMA, row_ids
from ftplatform.rows.schema import Role, Surface
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "feedback_lineage/2"

_PAIR = ["question", "target"]


@dataclass(frozen=True, slots=True)
class FeedbackSet:
    """One `feedback/<name>` as the dataset was made from it.

    Attributes:
        rows: its curated rows (`ROW_SCHEMA`).
        rejected: the events that curation rejected (`curation.REJECTED_SCHEMA`).
    """

    rows: pa.Table
    rejected: pa.Table


@dataclass(frozen=True, slots=True)
class SharedFile:
    """Bytes that are read both as feedback events and as another asset of the dataset."""

    asset: str
    feedback: str
    file: str


def feedback_lineage(
    rows: pa.Table,
    feedback: Mapping[str, FeedbackSet],
    *,
    shared_files: Sequence[SharedFile] = (),
    rewrites: pa.Table | None = None,
) -> Verdict:
    """Fail on any row of feedback that curation did not let through.

    A row fails if its surface is `debug` or missing; if it names feedback as an origin and is none of its curated rows, nor on record as
    made from one, or comes from one whose intent is missing; or if its last question and answer, or those of a row it was made from, are
    those of a rejected event, wherever it comes from. Where a row has placeholders, an event with values in their place says the same. A
    file that is read as events and as something else fails too, even if no row shows it.

    Args:
        rows: what is trained on, table of `ROW_SCHEMA`.
        feedback: every feedback asset of the project that can be read, in the dataset or not, by asset name.
        shared_files: files with the same bytes on both sides.
        rewrites: what the steps that built the dataset made from which row (`rows.rewriting.REWRITES_SCHEMA`). A line whose texts do not
            hash to the ids it names is no record.

    Returns:
        Verdict whose estimate is the number of paths around curation; an exact rule without an interval. Insufficient: no rows.
    """
    common: dict[str, Any] = {
        "statistic": "rows and files that reach the dataset around curation (n: rows)",
        "n": rows.num_rows,
        "n_required": 1,
        "threshold": 0.0,
        "baseline": f"curated rows and rejected events of {', '.join(sorted(feedback)) or 'no feedback'}",
        "check_version": CHECK_VERSION,
        "tier": "exact",
        "config": {"feedback": sorted(feedback)},
        "remedy": "Remove the rows or the source named; let the events through `feedback:` so that curation decides on them.",
    }
    if not rows.num_rows:
        return Verdict(decision=Decision.INSUFFICIENT_EVIDENCE, summary="There are no rows to trace.", **common)
    frame = _frame(rows)
    texts = _texts(frame, _record(rewrites))
    found = pl.concat(
        [
            _files(shared_files),
            _found(frame.filter(pl.col("surface").fill_null("") == ""), "missing surface"),
            _found(frame.filter(pl.col("surface") == str(Surface.DEBUG)), "debug surface"),
            *_uncurated(frame, feedback, texts),
            *_rejected(frame, feedback, texts),
        ]
    )
    counts = {str(name): int(count) for name, count in found["violation"].value_counts(sort=True).rows()}
    of_feedback = frame.filter(pl.col("origins").list.eval(pl.element().is_in(sorted(feedback))).list.any()).height
    if found.height:
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        decision, summary = Decision.FAIL, f"{found.height:,} paths around curation: {said}."
    else:
        decision = Decision.PASS
        summary = f"None of {rows.num_rows:,} rows goes around curation; {of_feedback:,} of them are curated feedback."
    return Verdict(
        decision=decision,
        summary=summary,
        estimate=float(found.height),
        evidence=[{**line, "text": excerpt(line["text"], 160)} for line in found.head(MAX_EVIDENCE).iter_rows(named=True)],
        plot=bars([(name, float(count)) for name, count in counts.items()], title="Paths around curation", x_label="rows or files"),
        details={
            "by_violation": counts,
            "rows_of_feedback": of_feedback,
            "rewritten_rows_followed": _followed(frame, feedback, texts),
        },
        **common,
    )


def _frame(rows: pa.Table) -> pl.DataFrame:
    """The rows with their last question and answer, and `text_id`, the hash of what they say, which the id they carry may not be."""
    columns = {name: rows[name] for name in ("row_id", "surface", "origins", "source", "messages")}
    frame = pl.DataFrame(columns).with_columns(text_id=pl.Series(row_ids(rows["messages"]), dtype=pl.String))
    return frame.select(
        "row_id", "text_id", "surface", "origins", "source", question=_last(Role.USER), target=_last(Role.ASSISTANT)
    )


def _last(role: Role) -> pl.Expr:
    said = pl.element().struct
    return pl.col("messages").list.eval(said.field("content").filter(said.field("role") == str(role))).list.last()


def _record(rewrites: pa.Table | None) -> pl.DataFrame:
    """The lines whose texts hash to what they name: text_id, made_from, and the question and target of the row it was made from."""
    record = REWRITES_SCHEMA.empty_table() if rewrites is None else rewrites
    lines = pl.DataFrame({"text_id": record["row_id"], "made_from": record["made_from"], "messages": record["messages"]})
    honest = lines.filter(pl.col("made_from") == pl.Series(row_ids(record["messages"]), dtype=pl.String))
    return honest.select("text_id", "made_from", question=_last(Role.USER), target=_last(Role.ASSISTANT))


def _texts(frame: pl.DataFrame, record: pl.DataFrame) -> pl.DataFrame:
    """Every text of each row, its own and those it was made from: text_id of the row, known_as, question, target."""
    own = frame.select("text_id", "question", "target", known_as="text_id")
    earlier = frame.select("text_id").join(record, on="text_id", how="inner", maintain_order="left")
    return pl.concat([own, earlier.rename({"made_from": "known_as"}).select(own.columns)])


def _found(rows: pl.DataFrame, violation: str, feedback: str = "") -> pl.DataFrame:
    return rows.select(
        "row_id",
        violation=pl.lit(violation),
        asset="source",
        feedback=pl.lit(feedback),
        text=pl.coalesce("target", "question", pl.lit("")),
    )


def _files(shared: Sequence[SharedFile]) -> pl.DataFrame:
    lines = [
        {"row_id": "", "violation": "event file read as rows", "asset": s.asset, "feedback": s.feedback, "text": s.file}
        for s in shared
    ]
    return pl.DataFrame(lines, schema=dict.fromkeys(("row_id", "violation", "asset", "feedback", "text"), pl.String))


def _uncurated(frame: pl.DataFrame, feedback: Mapping[str, FeedbackSet], texts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows that say they come from feedback and neither are nor were made from its curated rows, or only from some without an intent."""
    for name, known in sorted(feedback.items()):
        intent = pl.col("meta").str.json_path_match("$.intent").fill_null("") != ""
        curated = pl.DataFrame({"meta": known.rows["meta"]}).select(known_as=pl.Series(_ids(known)), stated=intent)
        own = frame.filter(pl.col("origins").list.contains(name))
        through = texts.join(curated, on="known_as", how="inner").group_by("text_id").agg(pl.col("stated").any())
        yield _found(own.join(through, on="text_id", how="anti", maintain_order="left"), "not curated", name)
        silent = through.filter(~pl.col("stated"))
        yield _found(own.join(silent, on="text_id", how="semi", maintain_order="left"), "missing intent", name)


def _ids(known: FeedbackSet) -> pl.Series:
    return pl.Series(row_ids(known.rows["messages"]), dtype=pl.String)


def _rejected(frame: pl.DataFrame, feedback: Mapping[str, FeedbackSet], texts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows with question and answer of a rejected event, now or before they were rewritten. One that curation let through is none."""
    accepted = pl.concat([pl.Series(dtype=pl.String), *map(_ids, feedback.values())])
    let_through = texts.filter(pl.col("known_as").is_in(accepted.implode()))
    said = texts.join(let_through, on="text_id", how="anti", maintain_order="left").select("text_id", "question", "target")
    masked = _masked(said.filter(holds_placeholder(pl.col("question")) | holds_placeholder(pl.col("target"))))
    said, masked = _plain(said), _plain(masked)
    for name, known in sorted(feedback.items()):
        # The old answer of an event is what the model said, not what somebody typed; it is no path from feedback.
        columns = {"question": "prompt", "target": "correction", "why": "rejection"}
        events = pl.DataFrame({ours: known.rejected[theirs] for ours, theirs in columns.items()}).drop_nulls("target")
        events = events.filter((pl.col("target").str.strip_chars() != "") & (pl.col("why") != "same_as_answer"))
        hits = [said.join(_plain(events), on=_PAIR, how="semi")]
        if masked.height:
            hits.append(masked.join(_plain(_masked(events)), on=_PAIR, how="semi"))
        shown = frame.join(pl.concat(hits), on="text_id", how="semi", maintain_order="left")
        yield _found(shown, "rejected event", name)


def _plain(texts: pl.DataFrame) -> pl.DataFrame:
    return texts.with_columns(normalized(pl.col(name)) for name in _PAIR)


def _masked(texts: pl.DataFrame) -> pl.DataFrame:
    return texts.with_columns(as_masked(texts[name]) for name in _PAIR)


def _followed(frame: pl.DataFrame, feedback: Mapping[str, FeedbackSet], texts: pl.DataFrame) -> int:
    """Rows of feedback that were made from a row on record."""
    earlier = texts.filter(pl.col("known_as") != pl.col("text_id"))
    of_feedback = frame.filter(pl.col("origins").list.eval(pl.element().is_in(sorted(feedback))).list.any())
    return of_feedback.join(earlier, on="text_id", how="semi").height
