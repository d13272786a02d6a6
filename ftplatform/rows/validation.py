"""Validation of a rows table: a pandera schema whose failures name column, rule and row, and the check built on it."""

from __future__ import annotations

from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.masking import excerpt
from ftplatform.rows.schema import ROW_SCHEMA, Role, Surface, row_id
from ftplatform.rows.turns import turns
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: One line per broken rule and row. `position` (in the table) and `row_id` are null when a whole column is at fault, `turn` when
#: the rule is about the row and not about one of its messages. `value` is masked.
FAILURE_SCHEMA = pa.schema(
    [
        pa.field("column", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("position", pa.int64()),
        pa.field("row_id", pa.string()),
        pa.field("turn", pa.int64()),
        pa.field("value", pa.string()),
    ]
)

_HEX_DIGEST = r"^[0-9a-f]{64}$"


def validate_rows(table: pa.Table) -> pa.Table:
    """Every broken rule of every row; empty means valid.

    Rules: the columns are those of `ROW_SCHEMA` with their types; nothing null that must not be; `row_id` is the hash of the
    messages; at least one message, roles known, contents not blank, only assistant messages trainable, none on the surfaces
    `eval` and `debug`; `source` among `origins`; surface known; `meta` is a JSON object.

    Args:
        table: any table that claims to hold rows.

    Returns:
        Table with `FAILURE_SCHEMA`, ordered by position.
    """
    structural = _structural_failures(table)
    if structural:
        return pa.Table.from_pylist(structural, schema=FAILURE_SCHEMA)
    failures = pl.concat([_failures(_row_frame(table), _row_schema()), _failures(_message_frame(table), _message_schema())])
    ids = table.column("row_id").to_pylist() if failures.height else []
    records = [
        {
            "column": line["column"],
            "rule": line["check"],
            "position": line["position"],
            "row_id": ids[line["position"]],
            "turn": line["turn"],
            "value": excerpt(line["failure_case"], 120) if line["failure_case"] is not None else None,
        }
        for line in failures.sort("position", "turn", "column", nulls_last=False).iter_rows(named=True)
    ]
    return pa.Table.from_pylist(records, schema=FAILURE_SCHEMA)


def _structural_failures(table: pa.Table) -> list[dict[str, Any]]:
    """Columns that are missing, foreign or of another type: no rule about rows can be judged then."""
    failures: list[dict[str, Any]] = []

    def add(column: str, rule: str, value: str | None) -> None:
        failures.append({"column": column, "rule": rule, "position": None, "row_id": None, "turn": None, "value": value})

    for field in ROW_SCHEMA:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            add(field.name, "column_exists", None)
        elif not _same_type(table.schema.field(index).type, field.type):
            add(field.name, f"type is {field.type}", str(table.schema.field(index).type))
    for name in table.schema.names:
        if name not in ROW_SCHEMA.names:
            add(name, "column_is_known", None)
    return failures


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    """Equal but for nullability and names of list items, which Parquet writers change."""
    if pa.types.is_list(expected):
        return pa.types.is_list(found) and _same_type(found.value_type, expected.value_type)
    if pa.types.is_struct(expected):
        return (
            pa.types.is_struct(found)
            and [field.name for field in found] == [field.name for field in expected]
            and all(_same_type(a.type, b.type) for a, b in zip(found, expected, strict=True))
        )
    return found.equals(expected)


def _row_frame(table: pa.Table) -> pl.DataFrame:
    """One line per row: the columns as far as the rules read them."""
    surfaces = table.column("surface")
    return pl.DataFrame(
        {
            "position": pl.int_range(table.num_rows, eager=True),
            "turn": pl.Series([None] * table.num_rows, dtype=pl.Int64),
            "row_id": pl.Series(table.column("row_id"), dtype=pl.String),
            "expected_id": pl.Series(_expected_ids(table), dtype=pl.String),
            "messages": pl.Series(pc.fill_null(pc.list_value_length(table.column("messages")), 0), dtype=pl.Int32),
            "source": pl.Series(table.column("source"), dtype=pl.String),
            "origins": pl.Series(table.column("origins"), dtype=pl.List(pl.String)),
            "parents": pl.Series(table.column("parents"), dtype=pl.List(pl.String)),
            "slices": pl.Series(table.column("slices"), dtype=pl.List(pl.String)),
            "surface": pl.Series(surfaces, dtype=pl.String),
            "meta": pl.Series(table.column("meta"), dtype=pl.String),
            "meta_is_object": pl.Series([_is_json_object(meta) for meta in table.column("meta").to_pylist()], dtype=pl.Boolean),
        }
    )


def _expected_ids(table: pa.Table) -> list[str | None]:
    # SHA-256 exists in no Arrow or Polars kernel; this loop is the only one per row, chunked to bound memory.
    expected: list[str | None] = []
    for batch in table.select(["messages"]).to_batches(max_chunksize=4_096):
        for messages in batch.column("messages").to_pylist():
            complete = messages and all(
                message and message["role"] is not None and message["content"] is not None for message in messages
            )
            expected.append(row_id(messages) if complete else None)
    return expected


def _is_json_object(text: str | None) -> bool:
    if text == "{}":
        return True
    try:
        return text is not None and isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _message_frame(table: pa.Table) -> pl.DataFrame:
    """One line per message."""
    flat = turns(table)
    return pl.DataFrame(
        {
            "position": pl.Series(flat.column("row"), dtype=pl.Int64),
            "turn": pl.Series(flat.column("turn"), dtype=pl.Int64),
            "messages.role": pl.Series(flat.column("role"), dtype=pl.String),
            "messages.content": pl.Series(flat.column("content"), dtype=pl.String),
            "messages.trainable": pl.Series(flat.column("trainable"), dtype=pl.Boolean),
            "surface": pl.Series(pc.take(table.column("surface"), flat.column("row")), dtype=pl.String),
        }
    )


def _row_schema() -> Any:
    import pandera.polars as pa_polars

    def rule(name: str, expression: pl.Expr) -> Any:
        """A rule that may read several columns and is reported under the one it belongs to; unknown counts as broken."""
        return pa_polars.Check(lambda data: data.lazyframe.select(expression.fill_null(False).alias(data.key)), name=name)

    not_blank = pa_polars.Check(
        lambda data: data.lazyframe.select(pl.col(data.key).str.strip_chars().str.len_bytes() > 0), name="not_blank"
    )
    no_null_items = pa_polars.Check(
        lambda data: data.lazyframe.select(pl.col(data.key).list.eval(pl.element().is_null()).list.any().not_()),
        name="no_null_items",
    )
    return pa_polars.DataFrameSchema(
        {
            "row_id": pa_polars.Column(
                pl.String,
                [
                    rule("sha256_hex", pl.col("row_id").str.contains(_HEX_DIGEST)),
                    rule("hash_of_messages", pl.col("row_id") == pl.col("expected_id")),
                ],
                nullable=False,
            ),
            "messages": pa_polars.Column(pl.Int32, rule("at_least_one", pl.col("messages") >= 1)),
            "source": pa_polars.Column(
                pl.String,
                [not_blank, rule("among_origins", pl.col("origins").list.contains(pl.col("source")))],
                nullable=False,
            ),
            "origins": pa_polars.Column(pl.List(pl.String), no_null_items, nullable=False),
            "parents": pa_polars.Column(pl.List(pl.String), no_null_items, nullable=False),
            "slices": pa_polars.Column(pl.List(pl.String), no_null_items, nullable=False),
            "surface": pa_polars.Column(
                pl.String, rule("known_surface", pl.col("surface").is_in(list(map(str, Surface)))), nullable=False
            ),
            "meta": pa_polars.Column(pl.String, rule("json_object", pl.col("meta_is_object")), nullable=False),
        }
    )


def _message_schema() -> Any:
    import pandera.polars as pa_polars

    def rule(name: str, expression: pl.Expr) -> Any:
        return pa_polars.Check(lambda data: data.lazyframe.select(expression.fill_null(True).alias(data.key)), name=name)

    trainable = pl.col("messages.trainable")
    return pa_polars.DataFrameSchema(
        {
            "messages.role": pa_polars.Column(
                pl.String, rule("known_role", pl.col("messages.role").is_in(list(map(str, Role)))), nullable=False
            ),
            "messages.content": pa_polars.Column(
                pl.String, rule("not_blank", pl.col("messages.content").str.strip_chars().str.len_bytes() > 0), nullable=False
            ),
            "messages.trainable": pa_polars.Column(
                pl.Boolean,
                [
                    rule("only_assistant", trainable.not_() | (pl.col("messages.role") == str(Role.ASSISTANT))),
                    rule(
                        "surface_allows_training",
                        trainable.not_() | ~pl.col("surface").is_in([str(Surface.EVAL), str(Surface.DEBUG)]),
                    ),
                ],
                nullable=False,
            ),
        }
    )


def _failures(frame: pl.DataFrame, schema: Any) -> pl.DataFrame:
    """Failure cases of one schema: `column`, `check`, `failure_case` (text), `position`, `turn`."""
    import pandera.errors

    empty = pl.DataFrame(
        schema={"column": pl.String, "check": pl.String, "failure_case": pl.String, "position": pl.Int64, "turn": pl.Int64}
    )
    if frame.height == 0:
        return empty
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        place = frame.select(pl.int_range(pl.len()).cast(pl.Int32).alias("index"), "position", "turn")
        return (
            cases.select("column", "check", pl.col("failure_case").cast(pl.String), pl.col("index").cast(pl.Int32))
            .join(place, on="index", how="left")
            .select(list(empty.columns))
        )
    return empty


def row_schema(table: pa.Table) -> Verdict:
    """Check `row_schema`: every row obeys every rule of `validate_rows`. Blocking; an empty table is insufficient evidence."""
    failures = validate_rows(table)
    broken_rows = pc.count_distinct(failures.column("position")).as_py() if failures.num_rows else 0
    structural = failures.num_rows > 0 and broken_rows == 0
    common: dict[str, Any] = {
        "statistic": "rows that break a rule of the row schema",
        "n": table.num_rows,
        "n_required": 1,
        "check_version": CHECK_VERSION,
        "config": {"schema": ROW_SCHEMA.to_string()},
        "threshold": 0.0,
        "tier": "exact",
    }
    if failures.num_rows == 0 and table.num_rows == 0:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There is no row to validate.",
            remedy="Check the source's paths and its quarantine: every record may have been refused.",
            **common,
        )
    if failures.num_rows == 0:
        return Verdict(
            decision=Decision.PASS,
            summary=f"All {table.num_rows:,} rows obey the row schema.",
            estimate=0.0,
            remedy="Nothing to do.",
            **common,
        )
    by_rule = pc.value_counts(pc.binary_join_element_wise(failures.column("column"), failures.column("rule"), ": ")).to_pylist()
    counts = {item["values"]: item["counts"] for item in sorted(by_rule, key=lambda item: -item["counts"])}
    worst = next(iter(counts))
    summary = (
        f"The table's columns are not those of rows ({worst})."
        if structural
        else f"{broken_rows:,} of {table.num_rows:,} rows break a rule; most often {worst}."
    )
    return Verdict(
        decision=Decision.FAIL,
        summary=summary,
        estimate=float(table.num_rows if structural else broken_rows),
        evidence=failures.slice(0, MAX_EVIDENCE).to_pylist(),
        details={"failures_by_rule": counts},
        remedy="Correct the named rows in the source, or the step that wrote them, and materialize again.",
        **common,
    )
