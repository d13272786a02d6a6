"""What the blocks of a project file say about each other, and what no single value can show to be wrong.

`check_references` is pure: nothing is opened. `check_files` looks at what the file points to.
"""

from __future__ import annotations

import posixpath
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterator, Sequence

from ftplatform.errors import FtplatformError
from ftplatform.project.adapter_references import check_adapters
from ftplatform.project.check_names import ADJUSTABLE_CHECKS, KNOWN_CHECKS
from ftplatform.project.credentials import credential_in, names_a_credential, shown
from ftplatform.project.cron import cron_problem
from ftplatform.project.files import check_files
from ftplatform.project.models import EvalKind, Project
from ftplatform.project.places import uris
from ftplatform.project.problems import KeyPath, Problem, nearest
from ftplatform.project.rewards import check_reward_loops
from ftplatform.project.synthesis import check_synthetic, generation_places
from ftplatform.project.uris import parse_source_uri, parse_store_uri
from ftplatform.project.yaml_source import YamlDocument
from ftplatform.rows.schema import Surface

__all__ = ["NAMED_SECTIONS", "check_files", "check_references"]

#: Sections whose keys become names of assets.
NAMED_SECTIONS = (
    "sources",
    "synthetic",
    "feedback",
    "datasets",
    "eval_sets",
    "rubrics",
    "base_models",
    "adapters",
    "rewards",
    "endpoints",
)
_ENVIRONMENT = re.compile(r"\$\{[A-Za-z_]\w*(?::?[-?=+][^}]*)?\}")
#: Keys whose text may hold anything, `${NAME}` included.
_FREE_TEXT = frozenset({"description", "system_prompt", "text", "regex", "equals"})
_HUB_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?(?:/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?)?")

#: Keys of an eval set that name the vault it is the counterpart of.
COUNTERPARTS = ("paraphrase_of", "fresh_for")

Report = Callable[..., None]


def check_references(project: Project, document: YamlDocument, *, known_checks: Collection[str] = KNOWN_CHECKS) -> list[Problem]:
    """Everything that is wrong between the blocks of `project`, with the lines of `document`.

    Args:
        project: the validated models (or what remains of them when some blocks were wrong).
        document: the file they come from; names that are declared there count even if their block was wrong.
        known_checks: names `gates` may override.
    """
    problems: list[Problem] = []

    def report(
        path: KeyPath, message: str, *, allowed: Collection[str] = (), suggestion: str | None = None, warning: bool = False
    ) -> None:
        position = document.position(path)
        problems.append(
            Problem(
                file=document.file,
                line=position.line,
                column=position.column,
                path=path,
                message=message,
                allowed=tuple(allowed),
                suggestion=suggestion,
                severity="warning" if warning else "error",
            )
        )

    declared = {section: _declared(document, section) for section in NAMED_SECTIONS}
    _check_names(document, declared, report)
    for path, section, name in _mentions(project):
        if name not in declared[section]:
            _report_unknown(path, section, name, declared, report)
    _check_lists(project, report)
    _check_training_data(project, document, report)
    _check_production_inputs(project, report)
    _check_counterparts(project, report)
    _check_habits(project, report)
    _check_semantic_dedup(project, report)
    check_adapters(project, report)
    check_synthetic(project, report)
    check_reward_loops(project, report)
    _check_gates(project, known_checks, report)
    _check_schedules(project, report)
    _check_uris(project, report)
    _check_text(document, report)
    return problems


def _declared(document: YamlDocument, section: str) -> tuple[str, ...]:
    found, _, node = document.walk((section,))
    return tuple(node.entries or ()) if found else ()


def _mentions(project: Project) -> Iterator[tuple[KeyPath, str, str]]:
    """Every mention of a block by name: path of the mention, the section it must be declared in, the name."""
    for name, synthetic in project.synthetic.items():
        yield from _each(("synthetic", name, "seeds"), "sources", synthetic.seeds)
        yield from _each(("synthetic", name, "production_inputs"), "sources", synthetic.production_inputs)
    for name, dataset in project.datasets.items():
        for section in ("sources", "synthetic", "feedback"):
            yield from _each(("datasets", name, section), section, getattr(dataset, section))
        yield from _each(("datasets", name, "production_inputs"), "sources", dataset.production_inputs)
        yield from _each(("datasets", name, "hardness_model"), "base_models", dataset.hardness_model)
    for name, feedback in project.feedback.items():
        yield from _each(("feedback", name, "base_model"), "base_models", feedback.base_model)
    yield from _each(("language", "prior_model"), "base_models", project.language.prior_model)
    yield from _each(("language", "probes"), "eval_sets", project.language.probes)
    for name in project.language.edits:
        yield ("language", "edits", name), "datasets", name
    for name, eval_set in project.eval_sets.items():
        yield from _each(("eval_sets", name, "rubric"), "rubrics", eval_set.rubric)
        for key in COUNTERPARTS:
            yield from _each(("eval_sets", name, key), "eval_sets", getattr(eval_set, key))
    for name, rubric in project.rubrics.items():
        yield from _each(("rubrics", name, "adapters"), "adapters", rubric.adapters)
    yield from _each(("realism", "real_evals"), "eval_sets", project.realism.real_evals)
    for name, adapter in project.adapters.items():
        yield from _each(("adapters", name, "base"), "base_models", adapter.base)
        yield from _each(("adapters", name, "dataset"), "datasets", adapter.dataset)
        yield from _each(("adapters", name, "evals"), "eval_sets", adapter.evals)
        if adapter.safety_mix is not None:
            yield from _each(("adapters", name, "safety_mix", "source"), "sources", adapter.safety_mix.source)
        yield from _each(("adapters", name, "continues"), "adapters", adapter.continues)
        if adapter.margin_probes is not None:
            for key in ("refusal", "safe"):
                yield from _each(("adapters", name, "margin_probes", key), "eval_sets", getattr(adapter.margin_probes, key))
    for section in ("rewards", "endpoints"):
        for name, block in getattr(project, section).items():
            yield from _each((section, name, "adapter"), "adapters", block.adapter)
    for name, block in project.rewards.items():
        if block.loop is not None:
            for key, section in (("start", "adapters"), ("prompts", "sources"), ("reward", "rubrics"), ("exam", "eval_sets")):
                yield from _each(("rewards", name, "loop", key), section, getattr(block.loop, key))


def _each(path: KeyPath, section: str, names: str | Sequence[str] | None) -> Iterator[tuple[KeyPath, str, str]]:
    if isinstance(names, str):
        yield path, section, names
    else:
        for index, name in enumerate(names or ()):
            yield (*path, index), section, name


def _report_unknown(path: KeyPath, section: str, name: str, declared: dict[str, tuple[str, ...]], report: Report) -> None:
    if section in ("sources", "synthetic", "feedback") and path[0] == "datasets" and name in declared["eval_sets"]:
        report(path, f"{name!r} is an eval set, and eval sets are never trained on; name an entry of '{section}'")
        return
    elsewhere = next((s for s in NAMED_SECTIONS if s != section and name in declared[s]), None)
    message = f"there is no {name!r} in '{section}'"
    if elsewhere is not None:
        message += f" (there is one in '{elsewhere}')"
    elif not declared[section]:
        message += ", which has no entries"
    report(path, message, allowed=declared[section], suggestion=nearest(name, declared[section]))


def _check_names(document: YamlDocument, declared: dict[str, tuple[str, ...]], report: Report) -> None:
    # Dagster names an op after its asset key and turns '-' and '.' into '_' (AssetKey.to_python_identifier).
    for section, names in declared.items():
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(re.sub(r"[-.]", "_", name), name)
            if other != name:
                line = document.position((section, other)).line
                report((section, name), f"{name!r} and {other!r} (line {line}) are the same name to Dagster; rename one")


def _check_lists(project: Project, report: Report) -> None:
    for section, name, key, names in (
        *(("datasets", n, k, getattr(d, k)) for n, d in project.datasets.items() for k in ("sources", "synthetic", "feedback")),
        *(("adapters", n, "evals", a.evals) for n, a in project.adapters.items()),
        *(("synthetic", n, "seeds", s.seeds) for n, s in project.synthetic.items()),
        *(("rubrics", n, "adapters", r.adapters) for n, r in project.rubrics.items()),
    ):
        for index, item in enumerate(names):
            if item in names[:index]:
                report((section, name, key, index), f"{item!r} is listed twice; remove one")
    for name, rubric in project.rubrics.items():
        ids = [criterion.id for criterion in rubric.criteria]
        for index, item in enumerate(ids):
            if item in ids[:index]:
                report(("rubrics", name, "criteria", index, "id"), f"the id {item!r} is used twice; rename one")


def _check_training_data(project: Project, document: YamlDocument, report: Report) -> None:
    """What is trained on must be neither an exam nor debug traffic."""
    exams = {
        _normal(uri): (name, document.position(("eval_sets", name, "path", index)).line)
        for name, eval_set in project.eval_sets.items()
        for index, uri in enumerate(eval_set.path)
    }
    trained: dict[tuple[str, str], KeyPath] = {}
    for path, section, name in _mentions(project):
        if (path[0] == "datasets" and path[2] in ("sources", "synthetic", "feedback")) or "safety_mix" in path:
            trained.setdefault((section, name), path)
    for (section, name), mention in trained.items():
        block = getattr(project, section).get(name)
        if block is None:
            continue
        for index, uri in enumerate(block.path):
            if _normal(uri) in exams:
                exam, line = exams[_normal(uri)]
                report(
                    (section, name, "path", index),
                    f"{shown(uri)} is trained on and is the file of eval set {exam!r} (line {line}); keep them apart",
                )
        if section == "sources" and block.surface in (Surface.DEBUG, Surface.EVAL):
            report(mention, f"{name!r} has surface '{block.surface}', whose rows are never trained on; take it out of the mix")


def _normal(uri: str) -> str:
    return uri if "://" in uri else posixpath.normpath(uri)


def _check_habits(project: Project, report: Report) -> None:
    for name, dataset in project.datasets.items():
        if dataset.habits is not None and project.behavior_policy is None:
            report(("datasets", name, "habits"), "needs to know what is allowed: give the project a 'behavior_policy'")


def _check_semantic_dedup(project: Project, report: Report) -> None:
    for name, dataset in project.datasets.items():
        if dataset.dedup.semantic_threshold is not None and project.encoder is None:
            report(
                ("datasets", name, "dedup", "semantic_threshold"),
                "needs a model that compares by meaning: give the project an 'encoder'",
            )


def _check_production_inputs(project: Project, report: Report) -> None:
    trained: dict[str, str] = {}
    for name, dataset in project.datasets.items():
        for source in dataset.sources:
            trained.setdefault(source, name)
    for section in ("datasets", "synthetic"):
        for name, block in getattr(project, section).items():
            if block.production_inputs in trained:
                inputs = block.production_inputs
                report(
                    (section, name, "production_inputs"),
                    f"{inputs!r} is also a source of dataset {trained[inputs]!r}: the comparison is partly with itself;"
                    " keep a sample of real inputs apart",
                    warning=True,
                )


def _check_counterparts(project: Project, report: Report) -> None:
    """The counterpart of a vault is scored like it, item by item."""
    vaults = [name for name, spec in project.eval_sets.items() if spec.vault]
    for name, own in project.eval_sets.items():
        for key in COUNTERPARTS:
            named = getattr(own, key)
            vault = project.eval_sets.get(named) if named is not None else None
            path = ("eval_sets", name, key)
            if named == name:
                report(path, "names the set itself; name the vault it is compared with", allowed=[v for v in vaults if v != name])
            elif vault is None:
                continue  # `_mentions` says so
            elif not vault.vault:
                report(path, f"{named!r} is no vault; give it 'vault: true', or name one", allowed=vaults)
            elif wrong := next((n for n, spec in ((named, vault), (name, own)) if spec.kind is not EvalKind.TASK), None):
                kind = project.eval_sets[wrong].kind
                report(path, f"{wrong!r} has kind '{kind}'; only the scores of two sets of kind 'task' can be compared")
            elif vault.metric != own.metric:
                report(path, f"{named!r} is scored by {vault.metric}, {name!r} by {own.metric}; give both the same metric")


def _check_gates(project: Project, known_checks: Collection[str], report: Report) -> None:
    for name, gate in project.gates.items():
        if name not in known_checks:
            report(
                ("gates", name), f"there is no check {shown(name)}", allowed=known_checks, suggestion=nearest(name, known_checks)
            )
        elif gate.threshold is None and gate.severity is None:
            report(("gates", name), "changes nothing; give 'threshold' or 'severity', or remove it", warning=True)
        elif gate.threshold is not None and name in KNOWN_CHECKS and name not in ADJUSTABLE_CHECKS:
            report(("gates", name, "threshold"), f"{name} is an exact rule without a limit to move; only 'severity' can be set")


def _check_schedules(project: Project, report: Report) -> None:
    if problem := cron_problem(project.schedules.nightly):
        report(("schedules", "nightly"), f"{shown(project.schedules.nightly)} is not a cron line: {problem}")
    zone = project.schedules.timezone
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: 'Europe' is a folder of the database
        suggestion = nearest(zone, zoneinfo.available_timezones())
        report(("schedules", "timezone"), f"{shown(zone)} is not an IANA time zone such as 'Europe/Paris'", suggestion=suggestion)


def _check_uris(project: Project, report: Report) -> None:
    for path, text, kind in (*uris(project), *generation_places(project)):
        if _ENVIRONMENT.search(text) or credential_in(text):
            continue  # `_check_text` says so
        try:
            uri = parse_store_uri(text) if kind == "store" else parse_source_uri(text)
        except FtplatformError as error:
            report(path, f"{error.message} {error.remedy}".strip())
            continue
        if kind in ("model", "policy") and not uri.is_local:
            report(
                path,
                f"{shown(text)}: a local path is needed here"
                + ("; for the hub use 'hub' and 'revision'" if kind == "model" else ""),
            )
        elif uri.is_glob and kind != "data":
            report(path, f"{shown(text)} is a pattern; one path is needed here")
        elif not uri.is_local and not uri.path.strip("/") and kind != "store":
            report(path, f"{shown(text)} names no file")
        elif uri.scheme == "hf" and not re.search(r"@[0-9a-f]{40}/", uri.path):
            report(
                path,
                f"{shown(text)} follows a branch, which moves; pin it: hf://datasets/org/name@<40-digit commit>/file",
                warning=True,
            )
    for name, model in project.base_models.items():
        if model.hub is not None and not _HUB_ID.fullmatch(model.hub):
            report(("base_models", name, "hub"), f"{shown(model.hub)} is not a hub id such as 'org/name'")


def _check_text(document: YamlDocument, report: Report) -> None:
    """No credentials and no environment variables, wherever they stand."""
    for path, _, text in document.scalars():
        keys = [part for part in path if isinstance(part, str)]
        if kind := credential_in(text):
            report(path, f"holds {kind}; credentials belong into the environment; revoke this one if the file was shared")
        elif keys[:1] == ["store_options"] and len(keys) == 2 and names_a_credential(keys[1]):
            hint = "set it in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            report(path, f"the option {keys[1]!r} is a credential; {hint}")
        elif (found := _ENVIRONMENT.search(text)) and not _FREE_TEXT.intersection(keys[-1:]):
            report(path, f"{shown(found[0])} is not substituted: the file means the same on every machine; write the value")
