"""`ftplatform serving ...`: what a request log says about cold starts, and how long our own adapters take to load; no project needed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption
from ftplatform.errors import InputDataError

if TYPE_CHECKING:
    from ftplatform.serving.analysis import Analysis

app = typer.Typer(help="Serving: cold starts and keeping warm.", no_args_is_help=True, rich_markup_mode=None)

#: Steps of the heat map, from sure to be warm to sure to be cold: background and text, and a mark where there are no colors.
_STEPS = (
    ("grey93", "black"),
    ("wheat1", "black"),
    ("light_salmon1", "black"),
    ("dark_orange", "black"),
    ("red3", "white"),
    ("dark_red", "white"),
)


@app.command("analyze")
def analyze_log(
    log: Annotated[list[str], typer.Argument(help="Request log: file, glob or URL; jsonl, csv, parquet, also .gz and .zst.")],
    layout: Annotated[str | None, typer.Option(help="azure or otel; our own column names by default.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="COLUMN=KEY where the log names a column otherwise.")] = None,
    idle_threshold: Annotated[float | None, typer.Option(min=0.001, help="Idle seconds to assume; fitted by default.")] = None,
    ping_cost: Annotated[float | None, typer.Option(min=0, help="Cost of a ping; with --cold-cost plans are compared.")] = None,
    cold_cost: Annotated[float | None, typer.Option(min=0, help="What one user's wait for the adapter is worth.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the adapter that share the traffic at random.")] = 1,
    user_hours: Annotated[list[str] | None, typer.Option(help="Hours that matter, e.g. 'mon-fri 08-20'.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the hours.")] = "UTC",
    html: Annotated[Path | None, typer.Option(help="Page to write, with both plots.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Which hours are cold, after how many idle seconds, and what keeping warm would cost."""
    from ftplatform.project.serving import hours_of_week, time_zone
    from ftplatform.rows.sources import list_files
    from ftplatform.serving.analysis import analysis_page, analyze
    from ftplatform.serving.keep_warm import Costs
    from ftplatform.serving.request_log import read_requests

    if (ping_cost is None) != (cold_cost is None):
        raise InputDataError("one cost alone compares nothing.", remedy="Give both --ping-cost and --cold-cost.")
    try:
        zone, hours = time_zone(timezone), frozenset[int]().union(*map(hours_of_week, user_hours or ()))
    except ValueError as error:
        raise InputDataError(f"{error}.", remedy="Correct --timezone or --user-hours.") from error
    fields = {**_fields(field or []), **({"layout": layout} if layout else {})}
    read = read_requests(list_files(log, Path.cwd()), source="log", fields=fields)
    found = analyze(
        read.table,
        idle_threshold=idle_threshold,
        costs=None if ping_cost is None or cold_cost is None else Costs(ping=ping_cost, cold_start=cold_cost),
        replicas=replicas,
        user_hours=hours or None,
        timezone=zone,
    )
    if html is not None:
        html.write_text(analysis_page(found, ", ".join(log)), encoding="utf-8")
    if as_json:
        counts = {"read": read.counts.read, "quarantined": read.counts.quarantined, "by_reason": dict(read.counts.by_reason)}
        print(json.dumps({"log": log, **counts, **found.record, "html": None if html is None else str(html)}, default=str))
        return
    _print(found, read.counts.quarantined)
    if html is not None:
        OUT.print(f"Page: {html}", markup=False, highlight=False)


@app.command("loads")
def loads(
    adapters: Annotated[list[Path], typer.Argument(help="Adapter folders; the first is measured, all are held beside each other.")],
    base: Annotated[Path, typer.Option(help="Folder of their base model.")],
    rounds: Annotated[int, typer.Option(min=2, help="Measurements of each kind.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """How long an adapter takes to its first token: cold process, cold adapter, hot swap, resident beside others."""
    from ftplatform.serving.load_times import measure_loads

    found = measure_loads(base, adapters, rounds=rounds)
    if as_json:
        print(json.dumps({"base": str(base), "adapters": [str(a) for a in adapters], "loads": [m.to_record() for m in found]}))
        return
    columns = ["what", "n", "median_s", "low_s", "high_s", "sd_s"]
    OUT.print(table("Seconds to the first token", columns, [m.to_record() for m in found]))


def _fields(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for column, equals, key in pairs:
        if not (column and equals and key):
            raise InputDataError(f"--field {column!r} is not COLUMN=KEY.", remedy="For example: --field time=timestamp")
    return {column: key for column, _, key in pairs}


def _print(found: "Analysis", quarantined: int) -> None:
    record: dict[str, Any] = found.record
    facts = {
        "requests": record["requests"],
        "of them pings": record["pings"],
        "refused lines": quarantined,
        "days": record["days"],
        "idle threshold, seconds": _bounded(record["idle_threshold"], "seconds"),
        "cold starts a day": _bounded(record["cold_starts"] and record["cold_starts"]["per_day"], "estimate"),
        "by one mean rate for all hours": record["daily_mean_rate_would_say"],
        "p99 to first token, seconds": record["p99_first_token"],
    }
    OUT.print(table("Request log", ["what", "value"], [{"what": what, "value": value} for what, value in facts.items()]))
    if found.expected is not None:
        OUT.print(_heat_map(found))
    OUT.print(_gaps(found))
    if record["keep_warm_plan"] is not None:
        plan = record["keep_warm_plan"]
        columns = ["plan", "pings_per_day", "cold_starts_per_day", "cost_per_day", "hours"]
        rows = [{"plan": name + (" *" if name == plan["class"] else ""), **facts} for name, facts in plan["classes"].items()]
        OUT.print(table(f"Plans, a ping after {plan['period_seconds']:.0f} idle seconds (* cheapest)", columns, rows))
    checks = [{"check": name, **said} for name, said in record["checks"].items()]
    OUT.print(table("Checks", ["check", "decision", "summary", "remedy"], checks))


def _bounded(interval: Any, name: str) -> str | None:
    return None if interval is None else f"{interval[name]:.4g} [{interval['low']:.4g}, {interval['high']:.4g}]"


def _heat_map(found: "Analysis") -> Table:
    """Percent of requests that are cold, by day and hour; a point where there was no request."""
    from ftplatform.serving.charts import DAYS, cold_by_day, shade

    assert found.expected is not None
    built = Table(
        title="Cold, % of requests, by hour of the week", title_justify="left", box=None, padding=(0, 0), header_style="bold"
    )
    built.add_column("")
    for hour in range(24):
        built.add_column(f"{hour:02d}", justify="right", width=4)
    for day, shares in zip(DAYS, cold_by_day(found.expected.hours), strict=True):
        built.add_row(f"{day} ", *(_shaded(share, shade) for share in shares))
    return built


def _shaded(share: float | None, shade: Any) -> Text:
    if share is None:
        return Text("·", style="dim")
    back, front = _STEPS[shade(share)]
    return Text(f"{100 * share:3.0f} ", style=f"{front} on {back}")


def _gaps(found: "Analysis") -> Table:
    """Requests and slow first tokens by the idle gap before them; bars are shares of slow ones."""
    from ftplatform.serving.charts import slow_by_gap

    built = Table(title="First token after an idle gap", title_justify="left", header_style="bold")
    for column in ("idle seconds", "requests", "slow", "slow %", "median first token, s"):
        built.add_column(column, justify="right")
    built.add_column("")
    for row in slow_by_gap(found.log, found.fit.slow):
        share = row.slow / row.known if row.known else None
        bar = Text("█" * round(30 * (share or 0)), style="dark_orange")
        percent = "" if share is None else f"{100 * share:.1f}"
        median = "" if row.median is None else f"{row.median:.3g}"
        built.add_row(f"{row.low:g} to {row.high:g}", f"{row.requests:,}", f"{row.slow:,}", percent, median, bar)
    return built


def register(parent: typer.Typer) -> None:
    """Add ``serving`` to the command line."""
    parent.add_typer(app, name="serving")
