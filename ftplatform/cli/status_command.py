"""`status`: what exists, how old it is, what its checks said, and why it may not be released."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan


def status(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Shows every asset: version, age, checks, waivers, and why it may not be released."""
    from ftplatform.defs.gates import gate_state
    from ftplatform.defs.keys import Family, asset_name

    plan = load_plan(project)
    store = plan.open_store()
    now = datetime.now(UTC)
    assets, checks = [], []
    for asset in plan.lineage.assets:
        head = store.head(asset)
        own = [_check_row(c, store, now) for c in plan.checks_of([asset])]
        checks += own
        assets.append(
            {
                "asset": asset,
                "version": head.snapshot[:12] if head else None,
                "age": _age(now, head.published_at) if head else "never built",
                "checks": ", ".join(_shown(r) for r in own if r["decision"] != "pass") or _all_passed(own),
            }
        )
    releases, states, waivers = {}, {}, {}
    for name, adapter in plan.project.adapters.items():
        if not adapter.release:
            releases[name], states[name], waivers[name] = ["declared as an experiment (release: false)"], "refused", []
            continue
        release = asset_name(Family.RELEASES, name)
        state = gate_state(plan.gates_of(release), store, now)
        waivers[name] = release_waivers(store, release, now)
        uncovered = [f"rests on a waiver that is over: {w['text']}" for w in waivers[name] if not w["covers"]]
        reasons = _reasons(state.unmet)
        if not reasons and store.head(release) is None:
            reasons = [f"not built yet: ftplatform run {release}"]
        releases[name] = uncovered + reasons
        states[name] = _release_state(reasons, uncovered, waivers[name])
    if as_json:
        record = {"project": plan.project.name, "assets": assets, "checks": checks, "releases": releases}
        typer.echo(json.dumps({**record, "release_states": states, "release_waivers": waivers}, default=str))
        return
    OUT.print(table(f"Assets of {plan.project.name}", ["asset", "version", "age", "checks"], assets))
    why = {name: [*reasons, *(w["text"] for w in waivers[name] if w["covers"])] for name, reasons in releases.items()}
    rows = [{"adapter": n, "state": states[n], "why": "\n".join(lines)} for n, lines in why.items()]
    OUT.print(table("Releases", ["adapter", "state", "why"], rows))


def _release_state(reasons: Sequence[str], uncovered: Sequence[str], waivers: Sequence[Any]) -> str:
    if uncovered:
        return "no longer covered"
    if reasons:
        return "refused"
    return "released under waiver" if waivers else "released"


def release_waivers(store: Any, release: str, now: datetime) -> list[dict[str, Any]]:
    """The waivers that the current release was made under, and whether they still cover it."""
    from ftplatform.defs.gates import lapsed

    if store.head(release) is None:
        return []
    found = []
    for named in store.current(release).facts.get("waivers", ()):
        issued = {w.id: w for w in store.waivers(named["asset"], named["check"])}
        waiver = issued.get(named["waiver"])
        if waiver is None:
            text = f"{named['check']} on {named['asset']}, waiver {named['waiver'][:12]} is gone from the store"
            found.append({**named, "covers": False, "text": text})
            continue
        until = f"until {waiver.expires_at:%Y-%m-%d %H:%M} UTC"
        text = f"{waiver.check} on {waiver.asset} waived by {waiver.by} {until} ({waiver.standing(now)}): {waiver.why}"
        found.append({**named, "until": waiver.expires_at, "covers": not lapsed([waiver], store, now), "text": text})
    return found


def _reasons(unmet: Sequence[Any]) -> list[str]:
    """One line per unmet check, and one for everything that was never built, which is a consequence rather than a reason."""
    missing = list(dict.fromkeys(u.asset for u in unmet if not u.snapshot))
    return [str(u) for u in unmet if u.snapshot] + ([f"never built: {', '.join(missing)}"] if missing else [])


def _check_row(check: Any, store: Any, now: datetime) -> dict[str, Any]:
    from ftplatform.defs.gates import gate_state
    from ftplatform.defs.metadata import verdict_row

    evaluation = store.latest_evaluation(check.asset, check.name)
    if evaluation is None:
        return {"asset": check.asset, "check": check.name, "decision": "not run", "severity": check.severity}
    row = verdict_row(evaluation)
    if check.blocking and evaluation.severity == "error" and row["decision"] != "pass":
        waived = gate_state([check], store, now)
        if waived.waived and not waived.unmet:
            row["waived_until"] = min(w.waiver.expires_at for w in waived.waived).strftime("%Y-%m-%d %H:%M UTC")
    return row


def _shown(row: dict[str, Any]) -> str:
    until = f" (waived until {row['waived_until']})" if "waived_until" in row else ""
    return f"{row['check']} {row['decision']}{until}"


def _all_passed(rows: list[dict[str, Any]]) -> str:
    return f"{len(rows)} passed" if rows else "none"


def _age(now: datetime, published_at: str) -> str:
    seconds = int((now - datetime.fromisoformat(published_at)).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def register(app: typer.Typer) -> None:
    """Add this command to the app."""
    app.command()(status)
