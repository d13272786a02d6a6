"""`python -m ftplatform.defs.training_child`: as `python -m ftplatform.training`, and what it does goes to the Dagster run's log.

Started by `training_pipes`. Imports `dagster_pipes`, which is small, and not Dagster.
"""

import os
import sys
import time

from dagster_pipes import PipesContext, open_dagster_pipes

from ftplatform.training.__main__ import main
from ftplatform.training.train import StepReport

#: Seconds between lines in the run's log; each is an event in Dagster's database.
_INTERVAL = 5.0


class _Log:
    """The first and the last step, and one every few seconds in between; at the end the metrics of the whole."""

    def __init__(self, pipes: PipesContext) -> None:
        self._pipes = pipes
        self._said = 0.0
        self._last: StepReport | None = None

    def __call__(self, step: StepReport) -> None:
        self._last = step
        now = time.monotonic()
        if self._said and now - self._said < _INTERVAL and step.step < step.steps:
            return
        self._said = now
        margin = f", {step.margin_ratio:.0%} of the refusal margin left" if step.margin_ratio is not None else ""
        speed = step.throughput.tokens_per_second
        self._pipes.log.info(
            f"step {step.step} of {step.steps}: loss {step.loss:.4f} nats per trained token, {speed:,.0f} tokens/s{margin}"
        )

    def metrics(self) -> dict[str, float | int | None]:
        """Of the last step; empty before the first."""
        if (step := self._last) is None:
            return {}
        return {
            "steps": step.step,
            "loss": step.loss,
            "tokens_per_second": step.throughput.tokens_per_second,
            "mfu": step.throughput.mfu,
            "margin_ratio": step.margin_ratio,
        }


def _run(arguments: list[str]) -> int:
    # Under torchrun the first process speaks for all.
    if os.environ.get("RANK", "0") != "0":
        return main(arguments)
    with open_dagster_pipes() as pipes:
        log = _Log(pipes)
        code = main(arguments, also=log)
        pipes.report_custom_message(log.metrics())
        return code


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
