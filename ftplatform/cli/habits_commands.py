"""`ftplatform habits`: what the agents of a dataset say that approved text does not, who says it, and what the checks found of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ftplatform.cli.console import OUT, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError, ProjectError

_SHOWN = 20
_PHRASES = ["phrase", "count", "approved", "z", "agents", "most by", "share"]
_CHECKS = ["check", "decision", "summary"]
_UNCOMPARED = "Phrases are compared with the approved texts that the policy names as voice.reference, and it names none"
_SENTENCES = ["check", "sentence", "reason", "agent"]


def habits(
    dataset: Annotated[str, typer.Argument(help="Name of the dataset.")],
    top: Annotated[int, typer.Option(help="Phrases to list.", min=1, max=500)] = 40,
    html: Annotated[Path | None, typer.Option(help="Also write it as a page, with a chart.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Phrases of the targets that approved text does not use as much, with the agents who use them, and what the habit checks said."""
    from ftplatform.defs.behavior import behavior_policy, brand_reference
    from ftplatform.defs.keys import Family, asset_name

    plan = load_plan(project)
    if dataset not in plan.project.datasets:
        raise InputDataError(
            f"the project has no dataset {dataset!r}.", remedy=f"Its datasets: {', '.join(plan.project.datasets)}."
        )
    uri = plan.project.behavior_policy
    if uri is None:
        raise ProjectError("the project has no behavior policy.", remedy="Write one and name it as `behavior_policy`.")
    if html is not None and not html.parent.is_dir():
        raise InputDataError(f"{html.parent} is no folder.", remedy="Create it, or write the page elsewhere.")
    policy = behavior_policy(plan, uri)
    reference = brand_reference(plan, uri, policy)
    store = plan.open_store()
    corpus = store.current(asset_name(Family.CORPORA, dataset))
    phrases, chart = ([], "") if reference is None else _phrases(corpus, store.current(reference), top)
    checks = [_check(store, corpus, name) for name in _names()]
    compared = f"Phrases of {dataset} against {reference}" if reference else _UNCOMPARED
    if html is not None:
        note = f"Snapshot {corpus.digest[:12]}, policy {policy.name} {policy.version}."
        html.write_text(_page(dataset, compared, phrases, chart, checks, note), encoding="utf-8")
    if as_json:
        facts = {"dataset": dataset, "snapshot": corpus.digest, "policy": policy.digest, "reference": reference}
        print(json.dumps({**facts, "phrases": phrases, "checks": checks}))
        return
    OUT.print(table(compared, _PHRASES, [_phrase_cells(line) for line in phrases]) if phrases else f"{compared}: none.")
    OUT.print(table("Checks", _CHECKS, checks))
    OUT.print(table("Sentences", _SENTENCES, _sentences(checks)[:_SHOWN]))
    if html is not None:
        OUT.print(f"Page: {html}")


def _phrases(corpus: Any, approved: Any, top: int) -> tuple[list[dict[str, Any]], str]:
    from ftplatform.targets.habits.phrases import over_represented

    columns = ["row_id", "messages", "author"]
    found, chart = over_represented(
        lambda: corpus.iter_batches("rows.parquet", columns), approved.iter_batches("rows.parquet", columns), top=top
    )
    return found.to_dicts(), chart


def _names() -> Sequence[str]:
    from ftplatform.project.check_names import CHECKS_BY_MODE

    return CHECKS_BY_MODE["M11"]


def _check(store: Any, corpus: Any, name: str) -> dict[str, Any]:
    """What a check said last; an answer about an earlier version of the corpus is none about this one."""
    evaluation = store.latest_evaluation(corpus.asset, name)
    if evaluation is None or evaluation.verdict is None:
        state = "not run" if evaluation is None else "running"
        return {"check": name, "decision": state, "summary": f"Next: ftplatform check {corpus.asset}", "evidence": []}
    verdict = evaluation.verdict
    told = {"check": name, "decision": str(verdict.decision), "summary": verdict.summary, "evidence": list(verdict.evidence)}
    if evaluation.judged[corpus.asset] != corpus.digest:
        told |= {"decision": "stale", "summary": f"Of an earlier version, {verdict.decision}: {verdict.summary}"}
    return told


def _sentences(checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The evidence that quotes somebody."""
    return [
        {"check": check["check"], "sentence": line["sentence"], "reason": line["reason"], "agent": line["author"]}
        for check in checks
        for line in check["evidence"]
        if "sentence" in line
    ]


def _phrase_cells(line: Mapping[str, Any]) -> dict[str, str]:
    share = line["top_author_share"]
    return {
        "phrase": line["phrase"],
        "count": f"{line['count']:,}",
        "approved": f"{line['approved']:,}",
        "z": f"{line['z']:.1f}",
        "agents": f"{line['authors']:,}",
        "most by": line["top_author"] or "",
        "share": "" if share is None else f"{share:.0%}",
    }


def _page(
    dataset: str, compared: str, phrases: Sequence[Mapping[str, Any]], chart: str, checks: Sequence[Mapping[str, Any]], note: str
) -> str:
    from ftplatform import pages

    told = [[check["check"], pages.Marked(check["decision"]), check["summary"]] for check in checks]
    quoted = [list(line.values()) for line in _sentences(checks)]
    listed = [list(_phrase_cells(line).values()) for line in phrases]
    body = f"""<header><h1>{pages.plain(f"Habits of {dataset}")}</h1></header>
<main>
{pages.section("Checks", "checks", pages.table(_CHECKS, told))}
{pages.section("Sentences", "sentences", pages.table(_SENTENCES, quoted) if quoted else "<p>None.</p>")}
{pages.section(compared, "phrases", chart + pages.table(_PHRASES, listed, numbers=(1, 2, 3, 4, 6)) if listed else "<p>None.</p>")}
</main>
<footer><p>Sorted by z, the log-odds in standard errors (Monroe, Colaresi, Quinn 2008). {pages.plain(note)}</p></footer>"""
    return pages.page(f"Habits of {dataset}", body)


def register(app: typer.Typer) -> None:
    """Add this command to the app."""
    app.command()(habits)
