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
    """Shows every asset: version, age, checks, and why it may not be released."""
    from ftplatform.defs.gates import unmet
    from ftplatform.defs.keys import Family, asset_name

    plan = load_plan(project)
    store = plan.open_store()
    now = datetime.now(UTC)
    assets, checks = [], []
    for asset in plan.lineage.assets:
        head = store.head(asset)
        own = [_check_row(c, store) for c in plan.checks_of([asset])]
        checks += own
        assets.append(
            {
                "asset": asset,
                "version": head.snapshot[:12] if head else None,
                "age": _age(now, head.published_at) if head else "never built",
                "checks": ", ".join(f"{r['check']} {r['decision']}" for r in own if r["decision"] != "pass") or _all_passed(own),
            }
        )
    releases = {}
    for name, adapter in plan.project.adapters.items():
        if not adapter.release:
            releases[name] = ["declared as an experiment (release: false)"]
            continue
        release = asset_name(Family.RELEASES, name)
        reasons = _reasons(unmet(plan.gates_of(release), store))
        if not reasons and store.head(release) is None:
            reasons = [f"not built yet: ftplatform run {release}"]
        releases[name] = reasons
    if as_json:
        typer.echo(
            json.dumps({"project": plan.project.name, "assets": assets, "checks": checks, "releases": releases}, default=str)
        )
        return
    OUT.print(table(f"Assets of {plan.project.name}", ["asset", "version", "age", "checks"], assets))
    rows = [{"adapter": n, "state": "refused" if r else "released", "why": "\n".join(r)} for n, r in releases.items()]
    OUT.print(table("Releases", ["adapter", "state", "why"], rows))


def _reasons(unmet: Sequence[Any]) -> list[str]:
    """One line per unmet check, and one for everything that was never built, which is a consequence rather than a reason."""
    missing = list(dict.fromkeys(u.asset for u in unmet if not u.snapshot))
    return [str(u) for u in unmet if u.snapshot] + ([f"never built: {', '.join(missing)}"] if missing else [])


def _check_row(check: Any, store: Any) -> dict[str, Any]:
    from ftplatform.defs.metadata import verdict_row

    evaluation = store.latest_evaluation(check.asset, check.name)
    if evaluation is None:
        return {"asset": check.asset, "check": check.name, "decision": "not run", "severity": check.severity}
    return verdict_row(evaluation)


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
