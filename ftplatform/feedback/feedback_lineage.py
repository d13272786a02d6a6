"""Does every row that feedback gave come through curation?

By construction a dataset can only name curated feedback. What construction cannot see is the same file read a second time as an
ordinary source, a rejected correction pasted into another corpus, or a row of a debug surface; this check looks for them in the rows.
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
from ftplatform.rows.schema import Role, Surface
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "feedback_lineage/1"


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
) -> Verdict:
    """Fail on any row of feedback that curation did not let through.

    A row fails if its surface is `debug` or missing; if it names feedback as an origin and is none of its curated rows, or one whose
    intent is missing; or if its last question and answer are those of a rejected event, wherever it comes from. A file that is
    read as events and as something else fails too, even if no row shows it.

    Args:
        rows: what is trained on, table of `ROW_SCHEMA`.
        feedback: every feedback asset of the project that can be read, in the dataset or not, by asset name.
        shared_files: files with the same bytes on both sides.

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
    found = pl.concat(
        [
            _files(shared_files),
            _found(frame.filter(pl.col("surface").fill_null("") == ""), "missing surface"),
            _found(frame.filter(pl.col("surface") == str(Surface.DEBUG)), "debug surface"),
            *_uncurated(frame, feedback),
            *_rejected(frame, feedback),
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
        details={"by_violation": counts, "rows_of_feedback": of_feedback},
        **common,
    )


def _frame(rows: pa.Table) -> pl.DataFrame:
    said = pl.element().struct.field("content")
    role = pl.element().struct.field("role")
    messages = pl.DataFrame({name: rows[name] for name in ("row_id", "surface", "origins", "source", "messages")})
    return messages.select(
        "row_id",
        "surface",
        "origins",
        "source",
        question=pl.col("messages").list.eval(said.filter(role == str(Role.USER))).list.last(),
        target=pl.col("messages").list.eval(said.filter(role == str(Role.ASSISTANT))).list.last(),
    )


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


def _uncurated(frame: pl.DataFrame, feedback: Mapping[str, FeedbackSet]) -> Iterator[pl.DataFrame]:
    """Rows that say they come from feedback and are none of its curated rows, or are without an intent there."""
    for name, known in sorted(feedback.items()):
        curated = pl.DataFrame({"row_id": known.rows["row_id"], "meta": known.rows["meta"]})
        stated = curated.filter(pl.col("meta").str.json_path_match("$.intent").fill_null("") != "")
        own = frame.filter(pl.col("origins").list.contains(name))
        yield _found(own.join(curated, on="row_id", how="anti", maintain_order="left"), "not curated", name)
        silent = curated.join(stated, on="row_id", how="anti")
        yield _found(own.join(silent, on="row_id", how="semi", maintain_order="left"), "missing intent", name)


def _rejected(frame: pl.DataFrame, feedback: Mapping[str, FeedbackSet]) -> Iterator[pl.DataFrame]:
    """Rows with question and answer of a rejected event. A row that curation let through as well is none."""
    pairs = frame.with_columns(normalized(pl.col("question")), normalized(pl.col("target")))
    accepted = [pl.DataFrame({"row_id": known.rows["row_id"]}) for known in feedback.values()]
    doubted = pairs.join(pl.concat(accepted), on="row_id", how="anti", maintain_order="left") if accepted else pairs
    for name, known in sorted(feedback.items()):
        # The old answer of an event is what the model said, not what somebody typed; it is no path from feedback.
        events = pl.DataFrame({each: known.rejected[each] for each in ("prompt", "correction", "rejection")}).drop_nulls(
            "correction"
        )
        texts = events.select(question=normalized(pl.col("prompt")), target=normalized(pl.col("correction")), why="rejection")
        texts = texts.filter((pl.col("target") != "") & (pl.col("why") != "same_as_answer")).unique(("question", "target"))
        hits = doubted.join(texts, on=("question", "target"), how="inner", maintain_order="left")
        shown = frame.join(hits.select("row_id").unique(), on="row_id", how="semi", maintain_order="left")
        yield _found(shown, "rejected event", name)
