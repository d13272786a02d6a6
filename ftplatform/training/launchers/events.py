"""What a run elsewhere tells: JSON objects, one a line. ``{"step": ...}`` after every step, at last ``{"result"}`` or ``{"error"}``."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from ftplatform.errors import FtplatformError, TrainingError
from ftplatform.training.launchers.run import Report
from ftplatform.training.throughput import Throughput
from ftplatform.training.train import StepReport, TrainingResult

Event = dict[str, Any]
_KINDS = ("step", "result", "error")


def step_event(report: StepReport) -> Event:
    """A step done."""
    return {"step": asdict(report)}


def result_event(result: TrainingResult) -> Event:
    """The end of a run that succeeded."""
    return {"result": result.to_record()}


def error_event(error: FtplatformError) -> Event:
    """The end of a run that its input, or what happened to it, brought down."""
    return {"error": {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}}


def event_of(line: str) -> Event | None:
    """The event in a line; None for whatever else is printed."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and len(event) == 1 and next(iter(event)) in _KINDS else None


def follow(events: Generator[Event, None, None], report: Report | None) -> TrainingResult:
    """Reads `events` to their end, or to an error. However this ends, the generator is closed, and what it started with it.

    Raises:
        FtplatformError: the error of the run, as the class it was there.
        TrainingError: it ended with neither.
    """
    result: TrainingResult | None = None
    with closing(events):
        for event in events:
            if "step" in event:
                if report is not None:
                    step = event["step"]
                    report(StepReport(**{**step, "throughput": Throughput(**step["throughput"])}))
            elif "error" in event:
                raise _raised(**event["error"])
            else:
                result = TrainingResult.from_record(event["result"])
    if result is None:
        raise TrainingError("the run ended and told no result", remedy="Look at the log of where it ran.")
    return result


def _raised(type: str, message: str, remedy: str) -> FtplatformError:
    kinds = {kind.__name__: kind for kind in _subclasses(FtplatformError)}
    return kinds.get(type, TrainingError)(message, remedy=remedy)


def _subclasses(kind: type[FtplatformError]) -> Iterator[type[FtplatformError]]:
    for direct in kind.__subclasses__():
        yield direct
        yield from _subclasses(direct)
