"""The harness as it is allowed to run here: installed, with plain task files and sandboxed templates.

A task file with a tag (`!function` names Python to import) is refused. The tasks that come with the harness do run its own Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftplatform.errors import EvaluationError


class HarnessMissing(EvaluationError):
    """The extra `lm-eval` is not installed."""


def require_harness() -> None:
    """Raises `HarnessMissing` if lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise HarnessMissing(
            "Tasks of lm-evaluation-harness need the package lm-eval.", remedy="Run: pip install 'ftplatform[lm-eval]'"
        )


def read_task_file(path: Path) -> dict[str, Any]:
    """The content of a self-contained task file, read by a loader that makes plain values only.

    Raises:
        EvaluationError: it cannot be read, names code, or leans on another file.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(
            f"Task file {path} cannot be read: {error}"[:400], remedy="Plain YAML is read; tags such as !function run code."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("task"), str) or "include" in content or "class" in content:
        raise EvaluationError(
            f"Task file {path} is no self-contained task.", remedy="Give it a name under `task`, without `include` or `class`."
        )
    return content


@contextmanager
def running(what: str) -> Iterator[None]:
    """The harness at work: Jinja templates of tasks are rendered in Jinja's sandbox, and what it raises becomes `EvaluationError`.

    Args:
        what: the tasks, for messages.
    """
    import jinja2
    import lm_eval.utils  # pyright: ignore[reportMissingImports]
    from jinja2.sandbox import SandboxedEnvironment

    plain = lm_eval.utils.env
    sandbox = SandboxedEnvironment(undefined=plain.undefined, keep_trailing_newline=True)
    sandbox.filters.update(plain.filters)
    lm_eval.utils.env = sandbox
    try:
        yield
    except (KeyError, ValueError, TypeError, OSError, ImportError, jinja2.TemplateError) as error:
        raise EvaluationError(
            f"The harness cannot run {what[:200]}: {type(error).__name__}: {error}"[:600],
            remedy="Check the task's name and file, and that its data is in the local cache.",
        ) from error
    finally:
        lm_eval.utils.env = plain
