"""Alerts on checks: what is new, and how it is told. The store's evaluations are the source; the sensor is a thin wrapper."""

import json
import urllib.request
from collections.abc import Iterable, Mapping
from urllib.error import URLError

from ftplatform.defs.checks import Check, Mode, lane
from ftplatform.store import Evaluation, Store
from ftplatform.verdict import Decision

#: Seconds to wait for the webhook.
WEBHOOK_TIMEOUT = 10.0


def latest_evaluations(checks: Iterable[Check], store: Store) -> dict[str, Evaluation]:
    """The latest finished evaluation of every check and lane, by ``asset:check``."""
    found = {}
    for check in checks:
        for name in {lane(check.name, mode, check.statistical) for mode in Mode}:
            evaluation = store.latest_evaluation(check.asset, name)
            if evaluation is not None and evaluation.verdict is not None:
                found[f"{check.asset}:{name}"] = evaluation
    return dict(sorted(found.items()))


def new_failures(latest: Mapping[str, Evaluation], seen: Mapping[str, str]) -> list[Evaluation]:
    """Evaluations that are not a pass and were not told before.

    Args:
        latest: from `latest_evaluations`.
        seen: by ``asset:check``, the state last told (see `state_of`).
    """
    return [e for key, e in latest.items() if e.verdict and not e.verdict.passed and seen.get(key) != state_of(e)]


def state_of(evaluation: Evaluation) -> str:
    """What makes an alert a new one: the decision and the snapshot, not the time. A nightly repeat of a known failure is silent."""
    decision = evaluation.verdict.decision if evaluation.verdict else Decision.INSUFFICIENT_EVIDENCE
    return f"{decision}@{evaluation.judged.get(evaluation.asset, '')[:16]}"


def message(failures: Iterable[Evaluation]) -> str:
    """Plain text for people, one line per check."""
    lines = []
    for e in failures:
        assert e.verdict is not None
        lines.append(f"[{e.severity}] {e.check} on {e.asset}: {e.verdict.decision}. {e.verdict.summary} {e.verdict.remedy}".strip())
    return "\n".join(lines)


def post(url: str, text: str) -> None:
    """POST ``{"text": ...}`` to a Slack-compatible webhook.

    Raises:
        OSError: if it could not be delivered; the message never holds the URL, which is a secret.
    """
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise OSError("the alert webhook must be an https URL")
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT) as response:
            if response.status >= 300:
                raise OSError(f"the alert webhook answered {response.status}")
    except URLError as error:
        raise OSError(f"the alert webhook could not be reached: {error.reason}") from None
