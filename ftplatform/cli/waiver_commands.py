"""`ftplatform waiver ...`: signing for a failed check, for a limited time, and taking it back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import FtplatformError, InputDataError

app = typer.Typer(
    help="Let a failed check through: signed, for a reason, for a limited time. It stays failed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_COLUMNS = ["id", "asset", "check", "decision", "summary", "by", "why", "until", "state"]


@app.command("issue")
def issue(
    asset: Annotated[str, typer.Argument(help="E.g. splits/support.")],
    check: Annotated[str, typer.Argument(help="E.g. contamination_near.")],
    by: Annotated[str, typer.Option(help="Who signs.")],
    why: Annotated[str, typer.Option(help="The reason, for whoever reads the release.")],
    days: Annotated[float, typer.Option(help="Days until it expires, at most 30.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Signs for what a check concludes about what is current. Exits with 1 if that cannot be waived."""
    from ftplatform.defs.gates import WaiverRefused, waive

    lifetime = lifetime_of(days)
    plan = load_plan(project)
    store = plan.open_store()
    try:
        waiver = waive(_check(plan, asset, check), store, by=by, why=why, lifetime=lifetime)
    except WaiverRefused as refusal:
        refused(refusal, as_json)
    _show(
        [_row(waiver, plan, store)],
        "Waived, not passed",
        as_json,
        after="Releases that go through it say so. Next: run what it stopped, without the check itself, e.g. ftplatform run"
        " adapters/NAME or releases/NAME.",
    )


@app.command("list")
def list_waivers(
    asset: Annotated[str | None, typer.Argument(help="Only those of this asset.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every waiver ever issued, newest first, and what became of it."""
    plan = load_plan(project)
    store = plan.open_store()
    waivers = [waiver for waiver in store.all_waivers() if asset in (None, waiver.asset)]
    _show([_row(waiver, plan, store) for waiver in waivers], "Waivers", as_json)


@app.command("revoke")
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As in `waiver list`; the beginning suffices if it is unique.")],
    by: Annotated[str, typer.Option(help="Who revokes it.")],
    why: Annotated[str, typer.Option(help="The reason.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ends a waiver now. Exits with 1 if it has ended already."""
    from ftplatform.store.waivers import Standing

    plan = load_plan(project)
    store = plan.open_store()
    found = [waiver for waiver in store.all_waivers() if id_ and waiver.id.startswith(id_)]
    if len(found) != 1:
        problem = f"{len(found)} waivers begin with {id_!r}" if found else f"there is no waiver {id_!r}"
        raise InputDataError(f"{problem}.", remedy="Give an id from: ftplatform waiver list")
    (waiver,) = found
    standing = waiver.standing(datetime.now(UTC))
    if standing in {Standing.REVOKED, Standing.EXPIRED}:
        refused(FtplatformError(f"The waiver {waiver.id[:12]} is {standing} already.", remedy="Nothing to do."), as_json)
    _show([_row(store.revoke_waiver(waiver, by=by, why=why), plan, store)], "Revoked", as_json)


def _check(plan: Any, asset: str, check: str) -> Any:
    if asset not in plan.lineage.parents:
        raise InputDataError(f"the project has no asset {asset!r}.", remedy=f"Assets: {', '.join(plan.lineage.assets)}.")
    by_name = {c.name: c for c in plan.checks_of([asset])}
    if check not in by_name:
        raise InputDataError(f"{asset} has no check {check!r}.", remedy=f"Its checks: {', '.join(by_name) or 'none'}.")
    return by_name[check]


def _row(waiver: Any, plan: Any, store: Any) -> dict[str, Any]:
    return {
        "id": waiver.id,
        "asset": waiver.asset,
        "check": waiver.check,
        "decision": str(waiver.decision),
        "summary": waiver.summary,
        "by": waiver.by,
        "why": waiver.why,
        "issued": f"{waiver.issued_at:%Y-%m-%dT%H:%M:%SZ}",
        "until": f"{waiver.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "state": _state(waiver, plan, store),
        "evaluation": waiver.evaluation,
    }


def _state(waiver: Any, plan: Any, store: Any) -> str:
    """What time, revocation and the present state of the project make of it."""
    from ftplatform.defs.gates import gate_state
    from ftplatform.store.waivers import Standing

    now = datetime.now(UTC)
    standing = waiver.standing(now)
    if standing is Standing.REVOKED:
        return f"revoked by {waiver.revocation.by}: {waiver.revocation.why}"
    if standing is not Standing.IN_FORCE:
        return str(standing)
    checks = [c for c in plan.checks_of([waiver.asset]) if c.name == waiver.check]
    used = any(w.waiver.same_finding(waiver) for w in gate_state(checks, store, now).waived)
    return str(standing) if used else "no longer applies: another snapshot, conclusion or set of rules"


def lifetime_of(days: float) -> timedelta:
    """How long a waiver is asked to last.

    Raises:
        InputDataError: if nobody may sign for that long.
    """
    from ftplatform.store.waivers import MAX_LIFETIME

    if not 0 < days <= MAX_LIFETIME.days:
        raise InputDataError(f"--days {days:g} is out of range.", remedy=f"Give more than 0 and at most {MAX_LIFETIME.days} days.")
    return timedelta(days=days)


def refused(refusal: FtplatformError, as_json: bool) -> NoReturn:
    """Say why nothing can be signed, and exit with 1."""
    if as_json:
        typer.echo(json.dumps({"error": type(refusal).__name__, "refused": refusal.message, "remedy": refusal.remedy}))
    else:
        OUT.print(f"Refused: {refusal}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1) from None


def _show(rows: list[dict[str, Any]], title: str, as_json: bool, after: str = "") -> None:
    if as_json:
        typer.echo(json.dumps({"waivers": rows}))
        return
    shown = [{**row, "id": row["id"][:12]} for row in rows]
    OUT.print(table(title, _COLUMNS, shown) if rows else f"{title}: none")
    if rows and after:
        OUT.print(after, markup=False, highlight=False)


def register(parent: typer.Typer) -> None:
    """Add these commands to the app."""
    parent.add_typer(app, name="waiver")
