"""What is wrong inside an adapter's block, or between it and what it names."""

from __future__ import annotations

from collections.abc import Callable

from ftplatform.project.models import Adapter, EvalKind, Project
from ftplatform.project.problems import nearest

Report = Callable[..., None]

_SECTIONS = {"raw": "sources", "synthetic": "synthetic", "feedback": "feedback"}


def check_adapters(project: Project, report: Report) -> None:
    """Reports every problem of the adapters; names that do not exist are reported elsewhere."""
    for name, adapter in project.adapters.items():
        _check_continued(project, name, adapter, report)
        _check_margin_probes(project, name, adapter, report)
        _check_shards(project, name, adapter, report)


def _check_continued(project: Project, name: str, adapter: Adapter, report: Report) -> None:
    path, chain = ("adapters", name, "continues"), [name]
    while (before := project.adapters[chain[-1]].continues) is not None:
        if before in chain:
            report(path, f"continues itself: {' <- '.join([*chain, before])}; let one of them start from its base")
            return
        if before not in project.adapters:
            return
        chain.append(before)
    if len(chain) == 1:
        return
    first = project.adapters[chain[1]]
    if first.base != adapter.base:
        report(path, f"{chain[1]!r} is tuned on {first.base!r}, not on {adapter.base!r}; an adapter fits one base model only")
    elif first.shards is not None:
        report(path, f"{chain[1]!r} is trained in shards; only a single adapter can be continued")
    elif first.training.lora != adapter.training.lora:
        report(path, f"{chain[1]!r} has other 'training.lora' settings; they are part of the weights")


def _check_margin_probes(project: Project, name: str, adapter: Adapter, report: Report) -> None:
    if adapter.margin_probes is None:
        return
    kinds = {"refusal": EvalKind.REFUSAL_PROBES, "safe": EvalKind.OVERREFUSAL_PROBES}
    for key, kind in kinds.items():
        named = getattr(adapter.margin_probes, key)
        spec, path = project.eval_sets.get(named), ("adapters", name, "margin_probes", key)
        if spec is None:
            continue
        if spec.kind is not kind:
            report(path, f"{named!r} has kind '{spec.kind}'; name a set of kind '{kind}'")
        elif adapter.training.early_stop is None:
            continue
        elif spec.vault:
            report(path, f"{named!r} is a vault, and early_stop would select a checkpoint by it; name other probes")
        elif named in adapter.evals or not adapter.evals:
            report(
                path,
                f"{named!r} is also the exam: early_stop selects the checkpoint by the probes that judge it; keep probes apart and"
                " list the others in 'evals'",
                warning=True,
            )


def _check_shards(project: Project, name: str, adapter: Adapter, report: Report) -> None:
    declared = [f"{family}/{part}" for family, section in _SECTIONS.items() for part in getattr(project, section)]
    dataset = project.datasets.get(adapter.dataset)
    if adapter.shards is None or dataset is None:
        return
    mixed = [f"{family}/{part}" for family, section in _SECTIONS.items() for part in getattr(dataset, section)]
    synthetic = [project.synthetic[part] for part in dataset.synthetic if part in project.synthetic]
    mixed += [f"raw/{seed}" for part in synthetic for seed in part.seeds]  # derived rows lie with their seeds
    path, separate = ("adapters", name, "shards"), adapter.shards.separate
    for index, source in enumerate(separate):
        place = (*path, "separate", index)
        if source not in declared:
            report(place, f"there is no {source!r}", allowed=mixed, suggestion=nearest(source, mixed))
        elif source in separate[:index]:
            report(place, f"{source!r} is listed twice; remove one")
        elif source not in mixed:
            # What is left must stay trained as it is when a separate source goes, so this cannot be an error.
            report(place, f"{source!r} is not in dataset {adapter.dataset!r}", warning=True)
    if adapter.shards.count == 1 and not separate:
        report(path, "one shard is no sharding: raise 'count', or name sources in 'separate'", warning=True)
    if dataset.reserve.fraction > 0 and not dataset.reserve.per_source:
        report(
            path,
            f"the reserve of dataset {adapter.dataset!r} is drawn across its sources, so removing one changes rows of the other"
            " shards too; give it 'reserve: {per_source: true}'",
            warning=True,
        )
