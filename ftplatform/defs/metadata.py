"""Rendering of verdicts and tables as Dagster metadata.

Text that comes from data is hostile: it goes only into text, JSON and table values, which the UI prints as they are, and never into
Markdown. The one Markdown value is the plot, an SVG inside an image data URI, where nothing can run.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from ftplatform.plots import markdown_image
from ftplatform.rows.masking import excerpt, mask_text
from ftplatform.store import Evaluation, Snapshot
from ftplatform.verdict import Verdict

#: Rows in a preview and characters in one of its cells.
PREVIEW_ROWS = 5
PREVIEW_CHARS = 160

_DIGEST = re.compile(r"[0-9a-f]{64}")

Metadata = dict[str, Any]


def _number(value: float | int | None) -> dg.MetadataValue:
    if value is None:
        return dg.MetadataValue.null()
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if _DIGEST.fullmatch(text):
        return text[:12]  # enough to tell rows apart; the whole digest is in the evaluation's record
    return excerpt(mask_text(text), PREVIEW_CHARS)


def records_table(records: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """A table of flat records; columns in order of first appearance, missing cells empty, text masked and shortened."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    if not columns:
        return dg.MetadataValue.text("none")
    schema = dg.TableSchema(columns=[dg.TableColumn(name=column, type=_type_of(records, column)) for column in columns])
    rows = [dg.TableRecord({column: _cell(record.get(column)) for column in columns}) for record in records]
    return dg.MetadataValue.table(records=rows, schema=schema)


def _type_of(records: Sequence[Mapping[str, Any]], column: str) -> str:
    values = [record[column] for record in records if record.get(column) is not None]
    if values and all(isinstance(v, bool) for v in values):
        return "bool"
    if values and all(isinstance(v, int) for v in values):
        return "int"
    return "float" if values and all(isinstance(v, int | float) for v in values) else "string"


def verdict_metadata(evaluation: Evaluation) -> Metadata:
    """The keys of SPEC 2.5 for a finished evaluation, plus what it judged."""
    verdict = evaluation.verdict
    assert verdict is not None, "a finished evaluation has a verdict"
    metadata: Metadata = {
        "decision": dg.MetadataValue.text(str(verdict.decision)),
        "summary": dg.MetadataValue.text(verdict.summary),
        "remedy": dg.MetadataValue.text(verdict.remedy),
        "statistic": dg.MetadataValue.text(verdict.statistic),
        "estimate": _number(verdict.estimate),
        "ci_low": _number(verdict.ci_low),
        "ci_high": _number(verdict.ci_high),
        "confidence": _number(verdict.confidence),
        "n": dg.MetadataValue.int(verdict.n),
        "n_required": dg.MetadataValue.int(verdict.n_required),
        "threshold": _number(verdict.threshold),
        "baseline": dg.MetadataValue.text(verdict.baseline or "none"),
        "evidence": records_table(verdict.evidence),
        "tier": dg.MetadataValue.text(verdict.tier),
        "check_version": dg.MetadataValue.text(verdict.check_version),
        "config_hash": dg.MetadataValue.text(verdict.config_hash),
        "judged": dg.MetadataValue.json(dict(evaluation.judged)),
        "record": dg.MetadataValue.text(evaluation.record or ""),
    }
    if verdict.plot:
        metadata["plot"] = dg.MetadataValue.md(markdown_image(verdict.plot, alt=verdict.statistic))
    if verdict.details:
        metadata["details"] = dg.MetadataValue.json(_masked(verdict.details))
    return metadata


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {str(k): _masked(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(v) for v in value]
    return value


def verdict_row(evaluation: Evaluation) -> dict[str, Any]:
    """One flat record for tables and `--json`: asset, check, and the keys of SPEC 2.5 (without the plot)."""
    base = {"asset": evaluation.asset, "check": evaluation.check, "severity": evaluation.severity, "blocking": evaluation.blocking}
    verdict: Verdict | None = evaluation.verdict
    if verdict is None:
        return {**base, "decision": "not_evaluated", "summary": "started and never finished"}
    record = {key: value for key, value in verdict.to_record().items() if key not in {"plot", "details", "config"}}
    return {**base, **record, "judged": dict(evaluation.judged), "evaluated_at": evaluation.evaluated_at}


def table_schema(schema: pa.Schema) -> dg.TableSchema:
    """Arrow schema as the UI's column list."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=f.name, type=str(f.type), constraints=dg.TableColumnConstraints(nullable=f.nullable))
            for f in schema
        ]
    )


def preview(table: pa.Table) -> dg.MetadataValue:
    """The first rows, flattened to text and masked."""
    return records_table([{k: _flat(v) for k, v in record.items()} for record in table.slice(0, PREVIEW_ROWS).to_pylist()])


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        if value and isinstance(value[0], dict) and "role" in value[0]:
            return " | ".join(f"{m['role']}: {m['content']}" for m in value)
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, dict) else value


def table_metadata(table: pa.Table) -> Metadata:
    """Row count, schema and masked preview, under the keys the UI knows."""
    return {
        "dagster/row_count": table.num_rows,
        "dagster/column_schema": table_schema(table.schema),
        "preview": preview(table),
    }


def snapshot_metadata(snapshot: Snapshot, *, reused: bool) -> Metadata:
    """Digest, files and facts of a snapshot."""
    return {
        "snapshot": dg.MetadataValue.text(snapshot.digest),
        "reused": dg.MetadataValue.bool(reused),
        "files": records_table(
            [{"path": f.path, "bytes": f.size, "sha256": f.sha256[:16]} for f in list(snapshot.files)[: PREVIEW_ROWS * 4]]
        ),
        "facts": dg.MetadataValue.json(_masked(dict(snapshot.facts))),
    }


def unmet_table(reasons: Iterable[Any]) -> dg.MetadataValue:
    """Table of unmet gates."""
    return records_table([{"asset": u.asset, "check": u.check, "snapshot": u.snapshot[:12], "reason": u.reason} for u in reasons])
