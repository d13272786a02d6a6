"""Tasks of EleutherAI's lm-evaluation-harness, asked of base and tuned model over one copy of the weights.

The harness brings prompts, answer extraction and metrics that others publish numbers with; the models answer through `Generator`, so
that weights, decoding and safety rules are those of every other evaluation here. A task that loads its data from the Hugging Face hub
needs the data in the local cache when the process is offline (`HF_HUB_OFFLINE=1`).

A task's templates are sandboxed while they run and a task file with a tag (`!function` names Python to import) is refused. The
tasks that come with the harness do run its own Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.generation import Decoding, Generator

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


class HarnessMissing(EvaluationError):
    """The extra `lm-eval` is not installed."""


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
    if find_spec("lm_eval") is None:
        raise HarnessMissing(
            "Tasks of lm-evaluation-harness need the package lm-eval.", remedy="Run: pip install 'ftplatform[lm-eval]'"
        )
    if not generator.has_adapter:
        raise EvaluationError(
            "The harness compares a tuned model with its base and no adapter is loaded.", remedy="Load the adapter."
        )
    import jinja2
    import lm_eval  # pyright: ignore[reportMissingImports]
    import lm_eval.tasks  # pyright: ignore[reportMissingImports]

    model_class = _model_class()
    simple_evaluate: Any = lm_eval.simple_evaluate  # resolved lazily there, so without a signature
    found: dict[str, dict[str, Any]] = {}
    specs = [_task(task) for task in tasks]
    manager = lm_eval.tasks.TaskManager(include_defaults=any(isinstance(spec, str) for spec in specs))
    for who in ("base", "tuned"):
        with _sandboxed_templates():
            try:
                results: Any = simple_evaluate(
                    model_class(generator, adapter=who == "tuned", max_new_tokens=max_new_tokens, seed=seed),
                    tasks=specs,
                    task_manager=manager,
                    limit=limit,
                    num_fewshot=num_fewshot,
                    apply_chat_template=chat_template,
                    system_instruction=system_prompt if chat_template else None,
                    fewshot_random_seed=seed,
                    log_samples=False,
                )
            except (KeyError, ValueError, TypeError, OSError, ImportError, jinja2.TemplateError) as error:
                raise EvaluationError(
                    f"The harness cannot run {', '.join(map(str, tasks))[:200]}: {type(error).__name__}: {error}"[:600],
                    remedy="Check the task's name and file, and that its data is in the local cache.",
                ) from error
        found[who] = results
    return _table(found["base"], found["tuned"])


def _task(task: str | Path) -> str | dict[str, Any]:
    """A name as it is, a file as its content, read by a loader that makes plain values only."""
    import yaml

    if isinstance(task, str) and not task.endswith((".yaml", ".yml")):
        return task
    try:
        content = yaml.safe_load(Path(task).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(
            f"Task file {task} cannot be read: {error}"[:400], remedy="Plain YAML is read; tags such as !function run code."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("task"), str) or "include" in content or "class" in content:
        raise EvaluationError(
            f"Task file {task} is no self-contained task.", remedy="Give it a name under `task`, without `include` or `class`."
        )
    return content


@contextmanager
def _sandboxed_templates() -> Iterator[None]:
    """Lets the harness render a task's Jinja templates in Jinja's sandbox."""
    import lm_eval.utils  # pyright: ignore[reportMissingImports]
    from jinja2.sandbox import SandboxedEnvironment

    plain = lm_eval.utils.env
    sandbox = SandboxedEnvironment(undefined=plain.undefined, keep_trailing_newline=True)
    sandbox.filters.update(plain.filters)
    lm_eval.utils.env = sandbox
    try:
        yield
    finally:
        lm_eval.utils.env = plain


def _model_class() -> type[Any]:
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]

    class _HarnessModel(TemplateLM):
        """A `Generator` in the harness's terms; texts arrive rendered."""

        def __init__(self, generator: Generator, *, adapter: bool, max_new_tokens: int, seed: int) -> None:
            super().__init__()
            self._generator = generator
            self._adapter = adapter
            self._decoding = Decoding(max_new_tokens=max_new_tokens, seed=seed)

        @property
        def eot_token_id(self) -> int:
            return self._generator.stop_tokens[0]

        @property
        def tokenizer_name(self) -> str:
            return self._generator.base_digest

        @property
        def max_length(self) -> int:
            return self._generator.context or 2048

        def chat_template(self, chat_template: bool | str = False) -> str:
            return self._generator.base_digest if chat_template else ""

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return self._generator.render([chat_history], continue_final=not add_generation_prompt)[0]

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            return self._generator.encode(string)

        def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
            pairs = [self._fitting(context, target) for _, context, target in requests]
            scored = self._generator.score_tokens(pairs, adapter=self._adapter)
            return list(zip(scored.total.tolist(), scored.greedy.tolist(), strict=True))

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            totals = []
            for request in requests:
                windows = get_rolling_token_windows(
                    self._generator.encode(request.args[0]), self.prefix_token_id, self.max_length - 1, 1
                )
                pairs = [make_disjoint_window(window) for window in windows]
                totals.append(float(self._generator.score_tokens(pairs, adapter=self._adapter).total.sum()))
            return totals

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            answers = [""] * len(requests)
            alike: dict[Decoding, list[int]] = {}
            for i, request in enumerate(requests):
                alike.setdefault(self._how(request.args[1]), []).append(i)
            for decoding, places in alike.items():
                # The end of a long prompt is what is asked; few-shot examples at its front give way.
                room = self.max_length - decoding.max_new_tokens
                prompts = [self._generator.encode(requests[i].args[0])[-room:] for i in places]
                said = self._generator.complete(prompts, decoding, adapter=self._adapter)
                for i, text in zip(places, said, strict=True):
                    answers[i] = _cut(text, requests[i].args[1].get("until"))
            return answers

        def _how(self, settings: dict[str, Any]) -> Decoding:
            limit = min(int(settings.get("max_gen_toks", self._decoding.max_new_tokens)), self.max_length // 2)
            sampled = bool(settings.get("do_sample")) and float(settings.get("temperature", 0.0)) > 0
            return replace(
                self._decoding,
                max_new_tokens=limit,
                temperature=float(settings["temperature"]) if sampled else 0.0,
                top_p=float(settings.get("top_p", 1.0)) if sampled else 1.0,
            )

        def _fitting(self, context: list[int], target: list[int]) -> tuple[list[int], list[int]]:
            target = target[-(self.max_length - 1) :]
            room = self.max_length - len(target)
            return context[-room:], target

    return _HarnessModel


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """A text before the first of its stop sequences."""
    stops = [until] if isinstance(until, str) else list(until or ())
    return text[: min((place for stop in stops if stop and (place := text.find(stop)) >= 0), default=len(text))]


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
