"""`ftplatform license ...`: the ledger, notices, and what hangs on them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption

app = typer.Typer(help="The license ledger and what hangs on it.", no_args_is_help=True, rich_markup_mode=None)
Valid = Annotated[str | None, typer.Option("--valid", help="Ask what was so at this time; default: now.")]
Known = Annotated[str | None, typer.Option("--known", help="... by what was known at this time; default: now.")]


def _plan(project: Path | None) -> Any:
    from ftplatform.defs.plan import Plan
    from ftplatform.project.loading import load_project, project_path

    return Plan(load_project(project_path(project)))


def _show(rows: list[dict[str, Any]], title: str, columns: list[str], as_json: bool, **more: Any) -> None:
    if as_json:
        typer.echo(json.dumps({**more, "rows": rows}, default=str))
    else:
        OUT.print(table(title, columns, rows) if rows else f"{title}: none")


@app.command("refresh")
def refresh(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Looks at the declarations and at every watched place now, and records what changed."""
    from ftplatform.defs.watching import look_round

    plan = _plan(project)
    found = look_round(plan, plan.open_store(), everything=True)
    if as_json:
        typer.echo(json.dumps({"looked": found.looked, "news": found.news, "problems": dict(found.problems)}))
        return
    OUT.print(f"{found.looked} watched places, {found.news} news")
    if found.problems:
        OUT.print(table("Problems", ["place", "problem"], [{"place": k, "problem": v} for k, v in found.problems.items()]))


@app.command("list")
def list_terms(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Every license of the project: its state now, since when, and what it permits."""
    from ftplatform.licensing.rights import USES
    from ftplatform.licensing.terms import assess

    plan = _plan(project)
    rows = []
    for name, terms in plan.terms.items():
        found = assess(terms, plan.policy)
        row = {"source": name, "license": found.license, "state": str(found.status), "known": "yes" if found.known else "no"}
        row |= {str(use): found.rights[use].level.name.lower() for use in USES}
        row["since"] = terms.standing.since[:10] if terms.standing else ""
        rows.append(row)
    columns = ["source", "license", "state", "since", "known", *(str(use) for use in USES)]
    _show(rows, f"Licenses under policy {plan.policy.name} {plan.policy.version}", columns, as_json)


@app.command("show")
def show(
    source: Annotated[str, typer.Argument(help="Name as in `license list`, e.g. raw/tickets.")],
    valid: Valid = None,
    known: Known = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was so at one time by what was known at another, and everything observed since."""
    from ftplatform.defs.ledger import open_ledger, terms_as_of
    from ftplatform.licensing.rights import USES
    from ftplatform.licensing.states import to_text, to_time
    from ftplatform.licensing.terms import assess

    plan = _plan(project)
    if source not in plan.terms:
        _unknown(source, plan)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        state = ledger.state(source, to_time(valid) if valid else None, to_time(known) if known else None)
        history = ledger.history(source)
    found = assess(terms_as_of(plan.declared_terms[source], state), plan.policy)
    record = {
        "source": source,
        "state": str(state.state),
        "since": to_text(state.valid_from) if state.valid_from else None,
        "declared": state.declared,
        "concluded": state.concluded,
        "concluded_by": state.concluded_by,
        "rights": {str(use): found.rights[use].level.name.lower() for use in USES},
        "withdrawn_rows": len(state.withdrawn_rows | state.taken_down_rows),
        "problems": list(found.problems),
    }
    rows = [
        {
            "event": entry.seq,
            "valid from": to_text(entry.observation.valid_from)[:19],
            "observed": to_text(entry.observation.observed_at)[:19],
            "state": str(entry.observation.state),
            "declared": entry.observation.declared,
            "concluded": entry.observation.concluded,
            "watcher": entry.observation.watcher,
            "notice": entry.observation.notice,
            "rows": len(entry.observation.rows) or None,
        }
        for entry in history
    ]
    if as_json:
        typer.echo(json.dumps({**record, "history": rows}, default=str))
        return
    OUT.print(
        table(source, ["fact", "value"], [{"fact": k, "value": _text(v)} for k, v in record.items() if v not in (None, [], 0)])
    )
    OUT.print(table("Observed", list(rows[0]) if rows else ["event"], rows))


@app.command("set")
def set_state(
    source: Annotated[str, typer.Argument(help="Name as in `license list`.")],
    state: Annotated[str, typer.Option(help="active, relicensed, prospective, disputed, deleted, takedown, reinstated, ...")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    concluded: Annotated[str | None, typer.Option(help="SPDX expression, if a person concluded one.")] = None,
    declared: Annotated[str | None, typer.Option(help="What the publisher says now.")] = None,
    evidence: Annotated[Path | None, typer.Option(help="File that was read.", exists=True, dir_okay=False)] = None,
    valid_from: Annotated[str | None, typer.Option(help="Since when it is so; default: now.")] = None,
    notice: Annotated[str | None, typer.Option(help="Notice it rests on or answers.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Appends what a person found out about a license. Nothing recorded is ever changed."""
    from ftplatform.canonical import sha256_hex
    from ftplatform.defs.ledger import open_ledger
    from ftplatform.errors import InputDataError
    from ftplatform.licensing.evidence import read_evidence
    from ftplatform.licensing.states import Exhibit, State, TermsObservation, to_time

    plan = _plan(project)
    if source not in plan.terms:
        _unknown(source, plan)
    if state not in set(State):
        raise InputDataError(f"{state!r} is no state of a license.", remedy=f"States are: {', '.join(State)}.")
    now = datetime.now(UTC)
    store = plan.open_store()
    exhibits: tuple[Exhibit, ...] = ()
    if evidence is not None:
        data = evidence.read_bytes()
        read = read_evidence(evidence.name, data)
        exhibits = (Exhibit(evidence.name, read.sha256, read.text_digest),)
        store.backend.ensure(f"evidence/{read.sha256}", data, sha256_hex(data))
    observation = TermsObservation(
        source=source,
        state=State(state),
        valid_from=to_time(valid_from) if valid_from else now,
        observed_at=now,
        watcher=by,
        declared=declared,
        concluded=concluded,
        concluded_by=by if concluded else None,
        exhibits=exhibits,
        notice=notice,
    )
    with open_ledger(plan.root, store) as ledger:
        event = ledger.append(observation)
    if as_json:
        typer.echo(json.dumps({"event": event.seq, "sha256": event.sha256}))
    else:
        OUT.print(f"Recorded as event {event.seq}. Next: ftplatform check, or wait for the sensor.")


@app.command("notice")
def notice(
    form: Annotated[Path, typer.Argument(help="Notice form (YAML) with the letter beside it.", exists=True, dir_okay=False)],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Records a legal notice, finds what it means among our rows, mirrors included, and the adapters it reaches."""
    from ftplatform.defs.removals import candidates, receive
    from ftplatform.licensing.watchers.manual import read_notice

    plan = _plan(project)
    store = plan.open_store()
    found = receive(plan, store, read_notice(form))
    matches = found.matches.counts() if found.matches is not None else []
    similar = candidates(store, found.form.id)
    if as_json:
        record = {"notice": found.form.id, "matches": matches, "candidates": similar}
        record |= {"exposed": list(found.exposed), "unplaced": list(found.unplaced)}
        typer.echo(json.dumps(record))
        return
    if matches:
        OUT.print(table("Rows that match", ["asset", "decision", "reason", "rows"], matches))
    if similar:
        OUT.print(table(f"Rows a person has to look at, {min(20, len(similar))} of {len(similar)}", list(similar[0]), similar[:20]))
        OUT.print(f"Those that may stay: ftplatform license clear {found.form.id} ROW_ID... (or --all) --by YOU", markup=False)
    if found.exposed:
        OUT.print(table("Adapters to rebuild", ["adapter"], [{"adapter": adapter} for adapter in found.exposed]))
    else:
        OUT.print("No adapter is reached.")
    for address in found.unplaced:
        OUT.print(f"Nothing of the project is known to come from {address}; look at it yourself.", markup=False)


@app.command("clear")
def clear(
    notice: Annotated[str, typer.Argument(help="Id of the notice.")],
    by: Annotated[str, typer.Option(help="Who looked at them.")],
    rows: Annotated[list[str] | None, typer.Argument(help="Ids of rows that resemble claimed ones and may stay.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are still to be looked at.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Records that a person looked at near duplicates of claimed rows and keeps them."""
    from ftplatform.defs.removals import candidates, clear_rows

    store = _plan(project).open_store()
    chosen = [row["row_id"] for row in candidates(store, notice)] if every else list(rows or [])
    clear_rows(store, notice, chosen, by)
    if as_json:
        typer.echo(json.dumps({"notice": notice, "cleared": len(set(chosen))}))
    else:
        OUT.print(f"{len(set(chosen))} rows cleared for notice {notice}.", markup=False)


@app.command("blast-radius")
def blast_radius(
    source: Annotated[str, typer.Argument(help="Name as rows carry it, e.g. raw/tickets.")],
    limit: Annotated[int, typer.Option(help="Versions to list.")] = 50,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything a source reached: live endpoints first, with the path, the share of rows, and what retraining without it takes."""
    from ftplatform.defs.lineage_index import lineage_index

    plan = _plan(project)
    with lineage_index(plan, plan.open_store()) as index:
        found = index.blast_radius(source)
        if as_json:
            typer.echo(json.dumps(found.to_record(), default=str))
            return
        rows = found.table_rows(limit)
        cost = found.retraining()
    OUT.print(table(f"{source} reached {len(found)} versions", list(rows[0]) if rows else ["asset"], rows))
    if cost.adapters:
        hours = "unknown" if cost.gpu_hours is None else f"{cost.gpu_hours:.2f} h"
        unmeasured = f" ({cost.unmeasured} not measured)" if cost.unmeasured else ""
        OUT.print(f"Retraining without it: {cost.adapters} adapters, {hours}{unmeasured}")


@app.command("drill")
def drill(
    source: Annotated[str, typer.Argument(help="Name as in `license list`.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rehearses a takedown of a source: what would have to be rebuilt, in which order, at what cost. Records nothing."""
    from ftplatform.defs.removals import rehearse

    plan = _plan(project)
    if source not in plan.terms:
        _unknown(source, plan)
    found, exposed = rehearse(plan, plan.open_store(), source)
    if as_json:
        typer.echo(json.dumps({"exposed": list(exposed), **found.to_json()}))
        return
    rows = found.to_rows()
    OUT.print(table(f"If {source} were taken down today", list(rows[0]) if rows else ["asset"], rows))
    OUT.print(f"{len(exposed)} adapters hold it; {found.untouched} assets need nothing.")


@app.command("certify")
def certify(
    adapter: Annotated[str, typer.Argument(help="E.g. adapters/support.")],
    notice: Annotated[str, typer.Option(help="Id of the notice.")],
    replay: Annotated[
        bool, typer.Option(help="Train again from the adapter's own closure and compare the weights (level L2).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the certificate here (JSON; Markdown beside it).")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Certifies that the influence of a notice is gone from an adapter, or refuses and says why."""
    from ftplatform.defs.removals import certificate
    from ftplatform.licensing.removal.certificate import CertificateRefused, render

    plan = _plan(project)
    try:
        issued = certificate(plan, plan.open_store(), adapter, notice, replayed=replay)
    except CertificateRefused as refusal:
        if as_json:
            typer.echo(json.dumps({"certificate": None, "refused": refusal.message, "remedy": refusal.remedy}))
        else:
            OUT.print(f"Refused: {refusal}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if out is not None:
        out.write_bytes(issued.to_bytes())
        out.with_suffix(".md").write_text(render(issued))
    if as_json:
        typer.echo(json.dumps({"certificate": dict(issued.document)}))
    else:
        OUT.print(render(issued), markup=False, highlight=False)


@app.command("rebuild")
def rebuild(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Builds the ledger's database anew from the event log in the store, verifying every event."""
    from ftplatform.defs.ledger import open_ledger

    plan = _plan(project)
    with open_ledger(plan.root, plan.open_store()) as ledger:
        events = ledger.rebuild()
    typer.echo(json.dumps({"events": events})) if as_json else OUT.print(f"{events} events, chain intact.")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _unknown(source: str, plan: Any) -> None:
    from difflib import get_close_matches

    from ftplatform.errors import InputDataError

    near = get_close_matches(source, plan.terms, n=1)
    raise InputDataError(
        f"the project has no license of {source!r}.",
        remedy=f"Did you mean {near[0]}?" if near else f"Names: {', '.join(plan.terms)}.",
    )


def register(parent: typer.Typer) -> None:
    """Add these commands to the app."""
    parent.add_typer(app, name="license")
