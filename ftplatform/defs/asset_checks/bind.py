"""From a `Check` to a Dagster asset check: one op per (asset, check), as blocking one must not block another's asset."""

from collections.abc import Collection

import dagster as dg

from ftplatform import progress
from ftplatform.defs.checks import Check, Mode, evaluate
from ftplatform.defs.keys import to_key
from ftplatform.defs.metadata import verdict_metadata
from ftplatform.defs.resources import StoreResource
from ftplatform.defs.run_tags import MODE_TAG


def bind(check: Check, ancestors: Collection[str] = ()) -> dg.AssetChecksDefinition:
    """The Dagster check that judges `check` when its run reaches it.

    A verdict that only warns is reported with severity WARN, which never blocks; the rest follows `check.blocking`.

    Args:
        ancestors: what the guarded asset is built from. It comes first anyway, and an explicit dependency on it would do harm: in a
            run of checks alone, a failing check upstream would keep this one from being judged.
    """
    first = [other for other in (*check.looks_at, *check.order_after) if other not in ancestors]

    @dg.asset_check(
        asset=to_key(check.asset),
        name=check.name,
        blocking=check.blocking,
        description=check.description,
        additional_deps=[to_key(other) for other in first],
        pool=check.pool,
        metadata={"check_version": check.version, "binding": check.binding, "statistical": check.statistical},
    )
    def asset_check(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        mode = Mode(context.run.tags.get(MODE_TAG, str(Mode.RUN)))
        evaluation = evaluate(check, store.open(), mode=mode, run_id=context.run.run_id)
        verdict = evaluation.verdict
        assert verdict is not None, "record_evaluation returns a finished evaluation"
        progress.advance(check.id, 1, 1)
        return dg.AssetCheckResult(
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.ERROR if evaluation.severity == "error" else dg.AssetCheckSeverity.WARN,
            description=f"{verdict.decision}: {verdict.summary}",
            metadata=verdict_metadata(evaluation),
        )

    return asset_check
