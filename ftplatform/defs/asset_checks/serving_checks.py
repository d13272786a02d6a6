"""M3 on the graph: how cold an endpoint is, whether its pings pay, and that they reach neither feedback nor samples of inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.project.models import Endpoint
from ftplatform.serving import effective, exposure, fence, observed
from ftplatform.serving.fence import SAMPLE_SCHEMA, samples_of_rows
from ftplatform.serving.idle import touches
from ftplatform.serving.idle_threshold import Threshold, known_threshold
from ftplatform.serving.keep_warm import Costs
from ftplatform.serving.request_marks import PingRule
from ftplatform.store import Snapshot
from ftplatform.verdict import Verdict

_ROW_COLUMNS = ["row_id", "messages", "group", "created_at", "meta"]


def serving_checks(plan: Plan) -> Iterator[Check]:
    """Three checks on every endpoint; the fence on all feedback and on all production inputs, if there is any endpoint."""
    for name, endpoint in plan.project.endpoints.items():
        yield from _endpoint_checks(asset_name(Family.SERVING, name), endpoint)
    if plan.project.endpoints:
        feedback = [asset_name(Family.FEEDBACK, name) for name in plan.project.feedback]
        yield from (_fence(plan, asset) for asset in (*feedback, *_production_inputs(plan)))


def _endpoint_checks(asset: str, endpoint: Endpoint) -> Iterator[Check]:
    promised = endpoint.time_to_first_token_slo is not None
    costs = None if endpoint.costs is None else Costs(ping=endpoint.costs.ping, cold_start=endpoint.costs.cold_start)

    def check(name: str, version: str, description: str, judge: Callable[[Judging], Verdict], **options: Any) -> Check:
        return Check(
            name=name,
            asset=asset,
            judge=judge,
            version=version,
            description=description,
            blocking=False,
            statistical=True,
            deciding=endpoint.model_dump(mode="json", exclude={"path", "owner", "description"}),
            **options,
        )

    yield check(
        "cold_start_exposure",
        exposure.CHECK_VERSION,
        "Users meet few cold starts: within the budget of a day, and in no hour of the week often.",
        lambda judging: exposure.cold_start_exposure(
            _requests(judging),
            _threshold(judging, endpoint),
            budget=endpoint.cold_starts_per_day if judging.threshold is None else judging.threshold,
            max_p_cold=endpoint.max_p_cold,
            user_hours=endpoint.watched_hours,
            replicas=endpoint.replicas,
            timezone=endpoint.timezone,
            alpha=judging.alpha,
        ),
        severity="error" if promised else "warn",
    )
    yield check(
        "cold_start_observed",
        observed.CHECK_VERSION,
        "The provider unloads the adapter no sooner than before, and the log records few cold starts.",
        lambda judging: observed.cold_start_observed(
            _requests(judging),
            budget=endpoint.cold_starts_per_day if judging.threshold is None else judging.threshold,
            alpha=judging.alpha,
        ),
        severity="warn",
    )
    yield check(
        "keepwarm_effective",
        effective.CHECK_VERSION,
        "Keep-warm requests cost less than the cold starts they remove.",
        lambda judging: effective.keepwarm_effective(
            _requests(judging),
            _threshold(judging, endpoint),
            costs,
            user_hours=endpoint.watched_hours,
            timezone=endpoint.timezone,
            alpha=judging.alpha,
        ),
        severity="warn",
    )


def _requests(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table("requests.parquet")


def _threshold(judging: Judging, endpoint: Endpoint) -> Threshold | None:
    return known_threshold(touches(_requests(judging)), endpoint.idle_threshold, confidence=1 - judging.alpha)


# ---- the fence -------------------------------------------------------------------------------------------------------------


def _production_inputs(plan: Plan) -> Iterator[str]:
    """Raw sources that synthetic sets, datasets or adapters are measured by."""
    project = plan.project
    named = [block.production_inputs for block in (*project.synthetic.values(), *project.datasets.values())]
    yield from dict.fromkeys(asset_name(Family.RAW, name) for name in named if name)


def _fence(plan: Plan, asset: str) -> Check:
    endpoints = {asset_name(Family.SERVING, name): endpoint for name, endpoint in plan.project.endpoints.items()}
    is_feedback = family_of(asset) is Family.FEEDBACK

    def judge(judging: Judging) -> Verdict:
        pings = fence.pings_of(
            [(_pings(judging.others[name]), _rule(block), block.pings.sent) for name, block in endpoints.items()]
        )
        # A vote comes later than its request, so the clock tells pings from users only in samples of inputs.
        samples = _events(judging.snapshot) if is_feedback else _rows(judging.snapshot)
        return fence.keepwarm_fence(samples, pings, by_clock=not is_feedback)

    return Check(
        name="keepwarm_fence",
        asset=asset,
        judge=judge,
        version=fence.CHECK_VERSION,
        description="No keep-warm request is among what users said or typed.",
        looks_at=tuple(endpoints),
        deciding={name: block.pings.model_dump(mode="json") for name, block in endpoints.items()},
    )


def _pings(snapshot: Snapshot) -> pa.Table:
    return snapshot.read_table("requests.parquet", columns=["time", "is_ping", "request_id", "prompt"])


def _rule(endpoint: Endpoint) -> PingRule:
    return PingRule(marker=endpoint.pings.marker, texts=tuple(endpoint.pings.texts))


def _events(snapshot: Snapshot) -> Iterator[pa.Table]:
    """Feedback events, rejected ones included, as samples."""
    columns = ["event_id", "conversation", "prompt", "comment", "created_at"]
    for batch in snapshot.iter_batches("events.parquet", columns=columns):
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        yield (
            frame.select(
                row_id="event_id",
                ids=pl.concat_list("event_id", "conversation").list.drop_nulls(),
                texts=pl.concat_list("prompt"),
                noted="comment",
                asked_at="created_at",
            )
            .to_arrow()
            .cast(SAMPLE_SCHEMA)
        )


def _rows(snapshot: Snapshot) -> Iterator[pa.Table]:
    return samples_of_rows(snapshot.iter_batches("rows.parquet", columns=_ROW_COLUMNS))
