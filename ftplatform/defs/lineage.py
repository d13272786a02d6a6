"""The shape of the graph, computed from the project file alone: who is built from whom.

Dagster has the same graph once definitions exist, but the gate must know it at definition time (notes: no repository is set
under in-process execution) and `status` wants it without building definitions.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name
from ftplatform.project.models import Adapter, Project, Reward


def evals_of(project: Project, adapter: Adapter) -> list[str]:
    """Names of the eval sets an adapter is judged on, in file order; all of them unless it names some."""
    return [name for name in project.eval_sets if not adapter.evals or name in adapter.evals]


def reward_rubrics_of(project: Project, adapter: str) -> list[str]:
    """Names of the rubrics that steer the training of an adapter, in file order: all rewards that name it, and those that name none and
    steer no loop."""
    looped = {reward.loop.reward for reward in project.rewards.values() if reward.loop is not None}
    rewards = [(name, rubric) for name, rubric in project.rubrics.items() if rubric.purpose == "reward"]
    return [name for name, rubric in rewards if adapter in rubric.adapters or not (rubric.adapters or name in looped)]


def eval_rubrics_of(project: Project, adapter: Adapter) -> list[str]:
    """Names of the rubrics that grade an adapter's eval sets, in order of the sets."""
    named = [project.eval_sets[name].rubric for name in evals_of(project, adapter)]
    return [name for name in dict.fromkeys(named) if name is not None and project.rubrics[name].purpose == "eval"]


def graded_by(project: Project, rubric: str) -> list[str]:
    """Assets whose items a rubric grades: the eval sets that name it; the splits of the adapters and prompts of the loops it steers."""
    if project.rubrics[rubric].purpose == "eval":
        return [asset_name(Family.EVAL_SETS, name) for name, spec in project.eval_sets.items() if spec.rubric == rubric]
    steered = [a.dataset for name, a in project.adapters.items() if rubric in reward_rubrics_of(project, name)]
    prompts = [r.loop.prompts for r in project.rewards.values() if r.loop is not None and r.loop.reward == rubric]
    return [
        *(asset_name(Family.SPLITS, dataset) for dataset in dict.fromkeys(steered)),
        *(asset_name(Family.RAW, source) for source in dict.fromkeys(prompts)),
    ]


def _inputs_of_loop(project: Project, reward: Reward) -> list[str]:
    """What a reward loop is run with; nothing for a ledger that was recorded."""
    loop = reward.loop
    if loop is None:
        return []
    return [
        asset_name(Family.ADAPTERS, loop.start),
        asset_name(Family.BASE_MODELS, project.adapters[loop.start].base),
        asset_name(Family.RAW, loop.prompts),
        asset_name(Family.RUBRICS, loop.reward),
        asset_name(Family.EVAL_SETS, loop.exam),
    ]


def _continued_first(adapters: Mapping[str, Adapter]) -> Iterator[tuple[str, Adapter]]:
    """Adapters in file order, but none before the one it continues."""
    done: set[str] = set()

    def with_its_own(name: str) -> Iterator[tuple[str, Adapter]]:
        if name in done:
            return
        done.add(name)
        adapter = adapters[name]
        if adapter.continues is not None:
            yield from with_its_own(adapter.continues)
        yield name, adapter

    for name in adapters:
        yield from with_its_own(name)


class Lineage:
    """Direct and transitive dependencies of every asset of a project, by asset name.

    Attributes:
        parents: asset -> the assets its snapshot is built from, in a stable order. Keys are in topological order.
    """

    def __init__(self, project: Project) -> None:
        parents: dict[str, list[str]] = {LICENSE_LEDGER: []}
        for name in project.sources:
            parents[asset_name(Family.RAW, name)] = []
        for name, synthetic in project.synthetic.items():
            parents[asset_name(Family.SYNTHETIC, name)] = [asset_name(Family.RAW, seed) for seed in synthetic.seeds]
        for name in project.feedback:
            parents[asset_name(Family.FEEDBACK, name)] = []
        for name in project.eval_sets:
            parents[asset_name(Family.EVAL_SETS, name)] = []
        for name in project.base_models:
            parents[asset_name(Family.BASE_MODELS, name)] = []
        for name, dataset in project.datasets.items():
            parents[asset_name(Family.CORPORA, name)] = [
                *(asset_name(Family.RAW, source) for source in dataset.sources),
                *(asset_name(Family.SYNTHETIC, synthetic) for synthetic in dataset.synthetic),
                *(asset_name(Family.FEEDBACK, feedback) for feedback in dataset.feedback),
                *([asset_name(Family.BASE_MODELS, dataset.hardness_model)] if dataset.hardness_model else []),
            ]
            parents[asset_name(Family.SPLITS, name)] = [asset_name(Family.CORPORA, name)]
        for name in project.rubrics:
            parents[asset_name(Family.RUBRICS, name)] = graded_by(project, name)
        for name, adapter in _continued_first(project.adapters):
            asset = asset_name(Family.ADAPTERS, name)
            mix = [asset_name(Family.RAW, adapter.safety_mix.source)] if adapter.safety_mix else []
            probes = adapter.margin_probes
            followed = [asset_name(Family.EVAL_SETS, e) for e in (probes.refusal, probes.safe)] if probes else []
            before = [asset_name(Family.ADAPTERS, adapter.continues)] if adapter.continues else []
            parents[asset] = [
                asset_name(Family.SPLITS, adapter.dataset),
                asset_name(Family.BASE_MODELS, adapter.base),
                *mix,
                *followed,
                *before,
                *(asset_name(Family.RUBRICS, rubric) for rubric in reward_rubrics_of(project, name)),
            ]
            results = asset_name(Family.EVAL_RESULTS, name)
            parents[results] = [
                asset,
                asset_name(Family.BASE_MODELS, adapter.base),
                asset_name(Family.SPLITS, adapter.dataset),
                *(asset_name(Family.EVAL_SETS, e) for e in evals_of(project, adapter)),
            ]
            if adapter.release:
                examined = (asset_name(Family.RUBRICS, rubric) for rubric in eval_rubrics_of(project, adapter))
                parents[asset_name(Family.RELEASES, name)] = [asset, results, *examined]
        for name, reward in project.rewards.items():
            parents[asset_name(Family.REWARD_LEDGERS, name)] = _inputs_of_loop(project, reward)
        for name in project.endpoints:
            parents[asset_name(Family.SERVING, name)] = []
        self._governing: dict[str, tuple[str, ...]] = {}
        for name, reward in project.rewards.items():
            for family in (Family.ADAPTERS, Family.RELEASES) if reward.adapter else ():
                governed = f"{family}/{reward.adapter}"
                ledger = asset_name(Family.REWARD_LEDGERS, name)
                self._governing[governed] = (*self._governing.get(governed, ()), ledger)
        self.parents: Mapping[str, tuple[str, ...]] = {asset: tuple(dict.fromkeys(p)) for asset, p in parents.items()}

    @property
    def assets(self) -> tuple[str, ...]:
        """Every asset, parents before children."""
        return tuple(self.parents)

    @cached_property
    def _ancestors(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for asset, parents in self.parents.items():
            found[asset] = frozenset(parents).union(*(found[p] for p in parents))
        return found

    def governing(self, asset: str) -> tuple[str, ...]:
        """Reward ledgers that decide whether an adapter is trained again and released; nothing of them goes into its weights."""
        return self._governing.get(asset, ())

    def ancestors(self, asset: str) -> tuple[str, ...]:
        """Everything `asset` is built from, directly or not, or governed by, parents first; without `asset` itself.

        What is only governed is no descendant: new rewards ask for no training.
        """
        wanted = self._ancestors[asset].union(self.governing(asset))
        return tuple(a for a in self.parents if a in wanted)

    def descendants(self, assets: Iterable[str]) -> tuple[str, ...]:
        """`assets` and everything built from them, parents first."""
        wanted = set(assets)
        return tuple(a for a in self.parents if a in wanted or wanted & self._ancestors[a])

    @cached_property
    def _upstream_of_release(self) -> frozenset[str]:
        releases = [a for a in self.parents if a.startswith(f"{Family.RELEASES}/")]
        return frozenset(releases).union(*(self._ancestors[r] for r in releases))

    def is_upstream_of_release(self, asset: str) -> bool:
        """Whether a release is built from `asset`: there, missing evidence refuses instead of warning (SPEC 2.5.2)."""
        return asset in self._upstream_of_release
