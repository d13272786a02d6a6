"""`ftplatform migrate`: rehearse an adapter on another base model, before anybody has to move. Publishes nothing."""

import getpass
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftplatform.cli.console import OUT, progress_bars, table
from ftplatform.cli.project_commands import JsonOption, ProjectOption
from ftplatform.cli.run_commands import load_plan
from ftplatform.errors import InputDataError

if TYPE_CHECKING:
    from ftplatform.closure.finding import Found
    from ftplatform.defs.plan import Plan
    from ftplatform.migration.bases import BaseFacts, TokenizerFacts
    from ftplatform.migration.rehearsal import Exam, Migration, Trained
    from ftplatform.store import Snapshot, Store
    from ftplatform.training.manifest import TrainingManifest

#: Training rows whose texts both tokenizers are measured on, and conversations rendered by both templates.
_MEASURED, _RENDERED = 2_000, 20
_SHOWN = 20


def migrate(
    adapter: Annotated[str, typer.Argument(help="Adapter of the project, or ADAPTER@DIGEST for an older version.")],
    to: Annotated[str, typer.Option("--to", metavar="BASE", help="Entry of base_models to move to.")],
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Training runs at the recipe's rate; the first has its seeds.")] = 1,
    learning_rates: Annotated[
        str, typer.Option(help="Multiples of the recipe's learning rate, with commas. Each costs a training run.")
    ] = "0.5,1,2",
    html: Annotated[Path | None, typer.Option(help="Write the report as a page.")] = None,
    by: Annotated[str | None, typer.Option(help="Who rehearses; default: the user of this machine.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs an adapter's recipe on another base model and compares: task, alignment, tokenizer, learning rate, cost.

    Exits with 0 if the adapter can move, else with 1. The rehearsal is recorded; nothing is published.
    """
    from ftplatform.migration.ledger import record_migration
    from ftplatform.migration.page import migration_page
    from ftplatform.migration.sensitivity import rate_grid

    if html is not None and not html.parent.is_dir():
        raise InputDataError(f"{html.parent} is no folder.", remedy="Create it, or write the page elsewhere.")
    rates = rate_grid(_numbers(learning_rates))
    who = by or _user()
    plan = load_plan(project)
    with tempfile.TemporaryDirectory(prefix="ftplatform-migration-") as folder, progress_bars(1, "migrate"):
        stage = _stage(plan, adapter, to, Path(folder))
        migration = _rehearse(stage, rates, seeds)
    # Whoever reads the report has judged a checkpoint by what it scored on these sets.
    stage.record_decisions(who)
    record = record_migration(stage.store.backend, migration, by=who)
    if html is not None:
        html.write_text(migration_page(migration, note=f"Rehearsed by {who}, record {record}."), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"record": record, "by": who, **migration.to_record()}))
    else:
        _show(migration)
        OUT.print(f"Rehearsed by {who}, record {record[:12]}.", markup=False, highlight=False)
    raise typer.Exit(0 if migration.moves else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What a rehearsal works with."""

    plan: "Plan"
    store: "Store"
    name: str
    found: "Found"
    snapshot: "Snapshot"
    old: "Snapshot"
    new: "Snapshot"
    recipe: "TrainingManifest"
    workspace: Path

    def train(self, multiple: float, replicate: int) -> "Trained":
        """The recipe on the new base."""
        from ftplatform import progress
        from ftplatform.migration.rehearsal import Trained
        from ftplatform.training.launchers import launch

        manifest = self._manifest(multiple, replicate)
        what = f"train {self.name} on {self.new.asset} (rate x {multiple:g}, seed {replicate + 1})"
        result = launch(
            manifest,
            self.workspace / f"{multiple:g}-{replicate}",
            launcher="torchrun" if manifest.world > 1 else "in_process",
            progress=lambda step, _loss: progress.advance(what, step, manifest.optimization.steps),
            work=self.plan.root / ".ftplatform" / "training",  # a rehearsal that was interrupted goes on from here
        )
        return Trained(
            folder=result.folder,
            steps=result.throughput.steps,
            tokens=result.throughput.tokens,
            seconds=result.throughput.seconds,
            losses=result.losses,
            encoding=result.encoding,
        )

    def _manifest(self, multiple: float, replicate: int) -> "TrainingManifest":
        from ftplatform.canonical import sha256_hex
        from ftplatform.defs.assets.base_models import FOLDER
        from ftplatform.training.base_model import describe_base_model
        from ftplatform.training.settings import BaseModelIdentity

        folder = self.new.local_folder(FOLDER)
        base = describe_base_model(folder)
        optimization, adapter_seed = self.recipe.optimization, self.recipe.adapter_seed
        if replicate:
            purposes = ("data_order", "adapter_init")
            drawn = [int(sha256_hex(f"{self.found.digest}\nmigration\n{replicate}\n{p}".encode())[:8], 16) >> 1 for p in purposes]
            optimization, adapter_seed = replace(optimization, seed=drawn[0]), drawn[1]
        return replace(
            self.recipe,
            base=BaseModelIdentity(
                name=self.new.asset,
                files=tuple((f["path"], f["sha256"]) for f in base["files"]),
                tokenizer_sha256=base["tokenizer_sha256"],
                chat_template_sha256=base["chat_template_sha256"],
            ),
            base_folder=str(folder),
            max_tokens=min(self.recipe.max_tokens, base["max_tokens"] or self.recipe.max_tokens),
            optimization=replace(optimization, learning_rate=multiple * optimization.learning_rate),
            adapter_seed=adapter_seed,
        )

    def examine(self, base: "Snapshot", weights: Path, *, tasks_only: bool = False) -> "Exam":
        """What an adapter and its own base answer on the project's eval sets, and whether alignment was kept."""
        from ftplatform import progress
        from ftplatform.defs.assets.base_models import FOLDER
        from ftplatform.defs.examining import declared_eval_sets, refusal_judge
        from ftplatform.evaluation.answer_cache import AnswerCache
        from ftplatform.evaluation.generation import Generator
        from ftplatform.evaluation.kinds import Kind
        from ftplatform.evaluation.suite import ANSWERS_SCHEMA, evaluate
        from ftplatform.migration.rehearsal import Exam

        spec = self.plan.project.adapters[self.name]
        declared = declared_eval_sets(self.plan, self.exams(), self.store)
        sets = [s for s in declared if s.kind is Kind.TASK or not tasks_only]
        if not sets:
            return Exam(answers=ANSWERS_SCHEMA.empty_table())
        result = evaluate(
            Generator.load(base.local_folder(FOLDER), weights, threads=spec.training.threads),
            sets,
            system_prompt=spec.system_prompt,
            cache=AnswerCache(self.store.backend),
            judge=refusal_judge(self.plan),
            progress=lambda what, done, total: progress.advance(f"ask {base.asset}, {what}", done, total),
        )
        if tasks_only:
            return Exam(answers=result.answers)
        return Exam(answers=result.answers, alignment=self._alignment(result.of_kind, base))

    def _alignment(self, of_kind: Callable[..., Any], base: "Snapshot") -> Mapping[str, Any]:
        from ftplatform.evaluation import retention

        conditions = retention.conditions(self.plan.project.adapters[self.name].system_prompt)
        verdicts = {}
        for check, side in retention.SIDES.items():
            gate = self.plan.project.gates.get(check)
            limits: dict[str, Any] = {} if gate is None or gate.threshold is None else {"margin": gate.threshold}
            baseline = f"{base.asset}@{base.digest[:12]}"
            verdicts[side.title] = side.rule(of_kind(side.kind), conditions=conditions, baseline=baseline, **limits)
        return verdicts

    def exams(self) -> "dict[str, Snapshot]":
        """Eval sets the adapter is judged on, as they are now."""
        from ftplatform.defs.keys import Family, asset_name
        from ftplatform.defs.lineage import evals_of

        names = evals_of(self.plan.project, self.plan.project.adapters[self.name])
        return {name: self.store.current(asset_name(Family.EVAL_SETS, name)) for name in names}

    def record_decisions(self, by: str) -> None:
        """Note in the ledger of every vault that was asked that somebody sees what was scored on it."""
        from ftplatform.defs.access import record_decision

        purpose = f"rehearsal of {self.snapshot.asset} on {self.new.asset}"
        record_decision(self.plan.project, self.store, self.exams(), by=by, purpose=purpose, adapter=self.snapshot)

    def base_facts(self, base: "Snapshot") -> "BaseFacts":
        """A base as the project and the store know it."""
        from ftplatform.defs.assets.base_models import FOLDER
        from ftplatform.migration.bases import BaseFacts
        from ftplatform.training.base_model import chat_template_of, describe_base_model

        folder = base.local_folder(FOLDER)
        described = describe_base_model(folder)
        declared = self.plan.project.base_models.get(base.asset.split("/", 1)[1])
        passed = []
        for check in self.store.checks(base.asset):
            latest = self.store.latest_evaluation(base.asset, check)
            if latest and latest.verdict and latest.verdict.passed and latest.judged.get(base.asset) == base.digest:
                passed.append(check)
        return BaseFacts(
            name=base.asset,
            snapshot=base.digest,
            chat_template=chat_template_of(folder),
            context=described["max_tokens"],
            parameters=described["parameters"],
            architecture=described["architecture"],
            license={}
            if declared is None
            else declared.license.model_dump(include={"declared", "concluded", "evidence", "concluded_by"}),
            hub=None if declared is None else declared.hub,
            revision=None if declared is None else declared.revision,
            passed=passed,
            tokenizer=self._tokenizer(folder),
        )

    def _tokenizer(self, folder: Path) -> "TokenizerFacts":
        from transformers import AutoTokenizer

        from ftplatform.migration.bases import measure_tokenizer

        rows = self.snapshot.read_table("rows.parquet", ["messages"])
        every = max(1, rows.num_rows // _MEASURED)
        conversations = rows.take(list(range(0, rows.num_rows, every)))["messages"].to_pylist()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return measure_tokenizer(tokenizer, conversations, rendered=_RENDERED)


def _stage(plan: "Plan", adapter: str, to: str, workspace: Path) -> _Stage:
    """Everything a rehearsal needs, or the reason why there can be none."""
    from ftplatform.closure.contents import base_model_of, contradictions, recipes
    from ftplatform.closure.finding import find_closure
    from ftplatform.defs.assets.adapter_job import RECORDS_FOLDER, REFUSAL_PROBES, SAFE_PROBES
    from ftplatform.defs.keys import Family, asset_name
    from ftplatform.training.manifest import TrainingManifest, resolve_device

    if to not in plan.project.base_models:
        raise InputDataError(
            f"the project has no base model {to!r}.", remedy=f"Its base models: {', '.join(plan.project.base_models)}."
        )
    store = plan.open_store()
    found = find_closure(adapter, store)
    snapshot = found.snapshot
    if snapshot is None or (name := snapshot.asset.split("/", 1)[1]) not in plan.project.adapters:
        raise InputDataError(
            f"{found.origin} is no adapter of the project.", remedy=f"Its adapters: {', '.join(plan.project.adapters)}."
        )
    if wrong := contradictions(found.manifest, snapshot, store):
        fields = ", ".join(change.path for change in wrong[:5])
        raise InputDataError(
            f"The closure of {name} contradicts what the store holds at {fields}.", remedy="Run: ftplatform closure verify"
        )
    if list(recipes(snapshot)) != [""]:
        raise InputDataError(f"{name} was trained in shards, each a run of its own.", remedy="Rehearse an adapter without shards.")
    record = snapshot.read_json(f"{RECORDS_FOLDER}/training_manifest.json")
    if record.get("initial_adapter") is not None:
        raise InputDataError(
            f"{name} continues an adapter, whose weights fit the old base only.", remedy="Rehearse the adapter it continues first."
        )
    old, new = base_model_of(found.manifest, store), store.current(asset_name(Family.BASE_MODELS, to))
    if old.digest == new.digest:
        raise InputDataError(f"{name} is trained on this very version of {to}.", remedy="Name another base model.")
    places = {"base_folder": "", "rows_path": str(snapshot.local_path("rows.parquet"))}
    held = {file.path for file in snapshot.files}
    for key, file in (("refusal_probes_path", REFUSAL_PROBES), ("safe_probes_path", SAFE_PROBES)):
        if f"{RECORDS_FOLDER}/{file}" in held:
            places[key] = str(snapshot.local_path(f"{RECORDS_FOLDER}/{file}"))
    recipe = TrainingManifest.from_record({**record, **places})
    resolve_device(recipe.device)  # a machine without the GPU of the recipe says nothing about the base
    return _Stage(
        plan=plan,
        store=store,
        name=name,
        found=found,
        snapshot=snapshot,
        old=old,
        new=new,
        recipe=recipe,
        workspace=workspace,
    )


def _rehearse(stage: _Stage, rates: list[float], seeds: int) -> "Migration":
    from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
    from ftplatform.migration.bases import base_differences
    from ftplatform.migration.rehearsal import rehearse

    return rehearse(
        adapter=stage.snapshot.asset,
        closure=stage.found.digest,
        bases=(stage.old.asset, stage.new.asset),
        differences=base_differences(stage.base_facts(stage.old), stage.base_facts(stage.new), stage.found.manifest),
        old=stage.examine(stage.old, stage.snapshot.local_folder(ADAPTER_FOLDER)),
        old_encoding=stage.snapshot.facts["encoding"],
        train=stage.train,
        examine=lambda trained, tasks_only: stage.examine(stage.new, trained.folder, tasks_only=tasks_only),
        learning_rate=stage.recipe.optimization.learning_rate,
        rates=rates,
        replicates=seeds,
    )


def _show(migration: "Migration") -> None:
    found = migration.differences
    OUT.print(table("Bases", ["what", "old", "new"], [{"what": w, "old": a, "new": b} for w, a, b in found.facts]))
    for line in found.template_diff[:_SHOWN]:
        OUT.print(line, markup=False, highlight=False)
    if found.missing:
        rows = [{"field": m.field, "had": m.had, "has": m.has, "remedy": m.remedy} for m in found.missing]
        OUT.print(table("Absent for the new base", ["field", "had", "has", "remedy"], rows))
    columns = ["part", "n", "old", "new", "gain", "low", "high", "p_adjusted", "change"]
    if migration.parts:
        OUT.print(table("Task, worst parts first", columns, [part.to_record() for part in migration.parts[: _SHOWN + 1]]))
    sides = [{"side": s, "decision": str(v.decision), "found": v.summary} for s, v in migration.alignment.items()]
    if sides:
        OUT.print(table("Alignment against the new base", ["side", "decision", "found"], sides))
    if migration.rates:
        rates = [{**r.to_record(), "change": r.change and str(r.change.change)} for r in migration.rates]
        OUT.print(table("Learning rate", ["multiple", "learning_rate", "score", "loss", "change"], rates))
    for multiple, reason in migration.failed_rates.items():
        OUT.print(f"{multiple:g} times the learning rate: {reason}", markup=False, highlight=False)
    if migration.runs:
        names = ["multiple", "replicate", "steps", "tokens", "seconds", "tokens_per_second"]
        OUT.print(table("Cost", names, migration.runs))
    OUT.print(f"{migration.verdict.summary} {migration.verdict.remedy}", markup=False, highlight=False)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputDataError(f"{text!r} is no list of numbers.", remedy="Write it as 0.5,1,2.") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:  # a container without a user database
        raise InputDataError("This machine does not say who you are.", remedy="Give --by.") from error


def register(parent: typer.Typer) -> None:
    """Add ``migrate`` to the command line."""
    parent.command("migrate")(migrate)
