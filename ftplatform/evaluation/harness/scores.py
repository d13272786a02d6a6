"""Tasks of the harness, asked of base and tuned model over one copy of the weights: scores and standard errors.

A task that loads its data from the Hugging Face hub needs the data in the local cache when the process is offline
(`HF_HUB_OFFLINE=1`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.harness.harness import read_task_file, require_harness, running

#: One row per task, metric (with the filter that extracted the answer) and model.
LM_EVAL_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("task_version", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("filter", pa.string(), nullable=False),
        pa.field("higher_is_better", pa.bool_()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("base", pa.float64(), nullable=False),
        pa.field("base_se", pa.float64()),
        pa.field("tuned", pa.float64(), nullable=False),
        pa.field("tuned_se", pa.float64()),
    ]
)


def lm_eval_task(
    generator: Generator,
    tasks: Sequence[str | Path],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    chat_template: bool = True,
    system_prompt: str | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
) -> pa.Table:
    """Scores of base and tuned model on tasks of the harness: table of `LM_EVAL_SCHEMA`.

    Args:
        generator: base model with the adapter loaded.
        tasks: names the harness knows, or paths of YAML task files.
        limit: items of each task; None is all.
        num_fewshot: examples in each prompt; None is what the task says.
        chat_template: ask in the model's chat format, as production does; False gives the bare text, as published base-model
            figures use.
        system_prompt: the production system prompt; needs the chat template.
        max_new_tokens: length limit where a task sets none.
        seed: of the few-shot examples and of sampling.

    Raises:
        HarnessMissing: if lm-eval is not installed.
        EvaluationError: for a task that is unknown, cannot be loaded or names code, and without an adapter.
    """
    require_harness()
    if not generator.has_adapter:
        raise EvaluationError(
            "The harness compares a tuned model with its base and no adapter is loaded.", remedy="Load the adapter."
        )
    specs = [read_task_file(Path(task)) if str(task).endswith((".yaml", ".yml")) else str(task) for task in tasks]
    base, tuned = (
        ask(
            generator,
            specs,
            adapter=adapter,
            limit=limit,
            num_fewshot=num_fewshot,
            chat_template=chat_template,
            system_prompt=system_prompt,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        for adapter in (False, True)
    )
    return _table(base, tuned)


def ask(
    generator: Generator,
    tasks: Sequence[str | dict[str, Any]],
    *,
    adapter: bool,
    limit: int | None = None,
    num_fewshot: int | None = None,
    chat_template: bool = True,
    system_prompt: str | None = None,
    max_new_tokens: int,
    seed: int = 0,
    items: bool = False,
) -> dict[str, Any]:
    """What the harness reports of one model on tasks (names, or contents of task files); with `items` of every item as well."""
    import lm_eval  # pyright: ignore[reportMissingImports]
    import lm_eval.tasks  # pyright: ignore[reportMissingImports]

    from ftplatform.evaluation.harness.model import model_class

    simple_evaluate: Any = lm_eval.simple_evaluate  # resolved lazily there, so without a signature
    names = ", ".join(task if isinstance(task, str) else task["task"] for task in tasks)
    with running(names):
        return simple_evaluate(
            model_class()(generator, adapter=adapter, max_new_tokens=max_new_tokens, seed=seed),
            tasks=list(tasks),
            task_manager=lm_eval.tasks.TaskManager(include_defaults=any(isinstance(task, str) for task in tasks)),
            limit=limit,
            num_fewshot=num_fewshot,
            apply_chat_template=chat_template,
            system_instruction=system_prompt if chat_template else None,
            fewshot_random_seed=seed,
            log_samples=items,
        )


def _table(base: dict[str, Any], tuned: dict[str, Any]) -> pa.Table:
    rows = []
    for task, metrics in base["results"].items():
        samples = base["n-samples"].get(task)
        for key, value in metrics.items():
            metric, _, by = key.partition(",")
            if not by or metric.endswith("_stderr") or not isinstance(value, int | float) or samples is None:
                continue
            after = tuned["results"][task]
            error = f"{metric}_stderr,{by}"
            rows.append(
                {
                    "task": task,
                    "task_version": str(base["versions"].get(task)),
                    "metric": metric,
                    "filter": by,
                    "higher_is_better": base["higher_is_better"].get(task, {}).get(metric),
                    "n": samples["effective"],
                    "base": float(value),
                    "base_se": _number(metrics.get(error)),
                    "tuned": float(after[key]),
                    "tuned_se": _number(after.get(error)),
                }
            )
    return pa.Table.from_pylist(rows, schema=LM_EVAL_SCHEMA)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None  # "N/A" where the harness has no standard error
