"""What changed since the last look: pure functions under the sensors, testable without an instance.

Each observation maps a name to a digest of content. Dates of files play no part, so that `touch` requests nothing and an edit that
preserves the date is still seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ftplatform.canonical import digest
from ftplatform.defs.assets.feedback import feedback_files
from ftplatform.defs.assets.harness_sets import files_behind
from ftplatform.defs.keys import LICENSE_LEDGER, Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.project.synthesis import generation_places
from ftplatform.rows.sources import content_digest, list_files

Observation = dict[str, str]


@dataclass(frozen=True)
class Request:
    """Work a change asks for.

    Attributes:
        assets: to materialize, parents first.
        checks: to judge, as (asset, check).
    """

    assets: tuple[str, ...]
    checks: tuple[tuple[str, str], ...]


def changed(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Names whose digest differs, appeared or vanished, sorted."""
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


def data_digests(plan: Plan) -> Observation:
    """Digest of the bytes behind every asset that is read from files, by asset name.

    Files of one asset are combined in their listing order; which files a glob matches is part of the content.
    """
    project = plan.project
    readers = {
        Family.RAW: project.sources,
        Family.SYNTHETIC: project.synthetic,
        Family.REWARD_LEDGERS: project.rewards,
        Family.SERVING: project.endpoints,
    }
    paths = {asset_name(family, name): list(block.path) for family, blocks in readers.items() for name, block in blocks.items()}
    for place, uri, kind in generation_places(project):
        if kind != "model":  # a model's folder is named by its own digest when the set is written
            paths[asset_name(Family.SYNTHETIC, str(place[1]))].append(uri)
    paths |= {asset_name(Family.EVAL_SETS, name): files_behind(plan, spec) for name, spec in project.eval_sets.items()}
    paths |= {asset_name(Family.FEEDBACK, name): feedback_files(plan, spec) for name, spec in project.feedback.items()}
    return {asset: digest([content_digest(file) for file in list_files(named, plan.root)]) for asset, named in paths.items()}


def license_digests(plan: Plan) -> Observation:
    """Digest of the terms of every asset that carries a license, by asset name.

    The terms of a synthetic set are those of its teacher; policy and uses count for every asset.
    """
    shared = digest({"use": [str(u) for u in plan.project.use], "policy": plan.policy.digest})
    terms = plan.terms
    return {
        asset: digest(
            [shared, terms[asset].digest, *(terms[p].digest for p in terms[asset].derived_from if p not in plan.lineage.parents)]
        )
        for asset in plan.lineage.assets
        if asset in terms
    }


def rebuild(plan: Plan, assets: list[str]) -> Request:
    """Everything downstream of `assets`, these included, and every check that looks at any of it."""
    affected = plan.lineage.descendants([a for a in assets if a in plan.lineage.parents])
    checks = tuple((check.asset, check.name) for check in plan.checks_looking_at(affected))
    return Request(affected, checks)


def relicense(plan: Plan, assets: list[str]) -> Request:
    """As `rebuild`, with the ledger: the terms are part of what is checked on each descendant."""
    request = rebuild(plan, assets)
    return Request((LICENSE_LEDGER, *request.assets), request.checks)
