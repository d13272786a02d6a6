"""Asset factories: one module per stage of the graph, each from a block of the project file to Dagster assets."""

from collections.abc import Iterator

import dagster as dg

from ftplatform.defs.assets.adapters import adapter_assets
from ftplatform.defs.assets.base_models import base_model_assets
from ftplatform.defs.assets.corpora import corpus_assets
from ftplatform.defs.assets.eval_results import eval_result_assets
from ftplatform.defs.assets.ledgers import ledger_assets
from ftplatform.defs.assets.raw import row_assets
from ftplatform.defs.assets.releases import release_assets
from ftplatform.defs.assets.rubrics import rubric_assets
from ftplatform.defs.assets.splits import split_assets
from ftplatform.defs.plan import Plan


def all_assets(plan: Plan) -> list[dg.AssetsDefinition]:
    """Every asset of the project."""
    stages = (
        ledger_assets,
        row_assets,
        corpus_assets,
        split_assets,
        base_model_assets,
        rubric_assets,
        adapter_assets,
        eval_result_assets,
        release_assets,
    )
    found: Iterator[dg.AssetsDefinition] = (asset for stage in stages for asset in stage(plan))
    return list(found)
