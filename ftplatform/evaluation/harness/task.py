"""A task of the harness as an eval set: its items as questions with answers, and what two models scored on each.

A task file names files or a dataset of the hub. They are read once; from then on the task consists of its documents, so that what
is asked next year is what was asked today.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.harness.harness import read_task_file, require_harness, running
from ftplatform.evaluation.harness.scores import ask

#: Files of a saved task.
TASK_FILE, DOCUMENTS = "task.json", "documents"
_DATASET_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs")
_SPLIT_KEYS = ("test_split", "validation_split", "training_split", "fewshot_split")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A document as a question and its right answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model answered to an item, and the task's first metric of it: from 0 to 1, higher is better."""

    answer: str
    score: float


@dataclass(frozen=True, slots=True)
class HarnessTask:
    """A task with its documents.

    Attributes:
        config: content of the task file without its dataset; plain values.
        documents: of each split the task uses, in order.
    """

    config: Mapping[str, Any]
    documents: Mapping[str, Sequence[Document]]

    @classmethod
    def read(cls, path: Path) -> HarnessTask:
        """The task of a file. Files it names lie beside it or below; a dataset of the hub comes from the local cache.

        Raises:
            HarnessMissing: if lm-eval is not installed.
            EvaluationError: the file names code, or its data cannot be read.
        """
        require_harness()
        content = read_task_file(path)
        if not isinstance(content.get("dataset_path"), str):
            raise EvaluationError(f"Task file {path} has no `dataset_path`.", remedy="Write `dataset_path: json` and data files.")
        config = {key: value for key, value in content.items() if key not in _DATASET_KEYS}
        kwargs: dict[str, Any] = dict(content.get("dataset_kwargs") or {})
        if "data_files" in kwargs:
            kwargs["data_files"] = _below(kwargs["data_files"], path)
        with tempfile.TemporaryDirectory(prefix="ftplatform-task-") as cache, running(str(path)):
            import datasets  # pyright: ignore[reportMissingImports]

            # Only a dataset of the hub is looked for in the cache of the machine; what files hold is not left there.
            if "data_files" in kwargs:
                kwargs["cache_dir"] = cache
            found: Any = datasets.load_dataset(content["dataset_path"], content.get("dataset_name"), **kwargs)
            splits = {config[key] for key in _SPLIT_KEYS if key in config}
            if missing := sorted(splits - set(found)):
                raise EvaluationError(
                    f"{path} names the split {missing[0]!r} and its data has {', '.join(map(str, found))}.",
                    remedy="Correct the split.",
                )
            if not splits & {config.get("test_split"), config.get("validation_split")}:
                raise EvaluationError(f"{path} names no split to ask.", remedy="Write `test_split:`.")
            documents = {split: cast("list[Document]", found[split].to_list()) for split in sorted(splits)}
        return cls(config, documents)

    @classmethod
    def load(cls, folder: Path) -> HarnessTask:
        """A task as `files` saved it."""
        documents = {
            path.stem: [orjson.loads(line) for line in path.read_bytes().splitlines()] for path in (folder / DOCUMENTS).iterdir()
        }
        return cls(orjson.loads((folder / TASK_FILE).read_bytes()), documents)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The task as files: name and content.

        Raises:
            EvaluationError: a document holds something that has no JSON form, an image for one.
        """
        try:
            yield TASK_FILE, orjson.dumps(self.config, option=orjson.OPT_SORT_KEYS)
            for split, documents in self.documents.items():
                yield f"{DOCUMENTS}/{split}.jsonl", b"".join(orjson.dumps(d) + b"\n" for d in documents)
        except TypeError as error:
            raise EvaluationError(
                f"Task {self.name} has documents without a JSON form: {error}"[:300], remedy="Only tasks on text can be asked."
            ) from error

    @property
    def name(self) -> str:
        """What the task file calls it."""
        return self.config["task"]

    @property
    def asked(self) -> Sequence[Document]:
        """The documents that are asked, in order."""
        return self.documents[self.config.get("test_split") or self.config["validation_split"]]

    def items(self) -> list[Item]:
        """The documents that are asked, in order, without few-shot examples.

        Raises:
            EvaluationError: as `read`.
        """
        import lm_eval.tasks  # pyright: ignore[reportMissingImports]

        with self._offered() as config, running(self.name):
            manager = lm_eval.tasks.TaskManager(include_defaults=False)
            task: Any = lm_eval.tasks.get_task_dict([config], manager)[self.name]
            return [Item(str(task.doc_to_text(document)), _right(task, document)) for document in task.eval_docs]

    def ask(
        self, generator: Generator, *, adapter: bool, system_prompt: str | None = None, max_new_tokens: int = 256
    ) -> list[Scored]:
        """One model's answers to all items, in order, asked in the model's chat format.

        Raises:
            EvaluationError: the task's first metric is no figure from 0 to 1 of each item for which higher is better.
        """
        with self._offered() as config:
            said = ask(generator, [config], adapter=adapter, system_prompt=system_prompt, max_new_tokens=max_new_tokens, items=True)
        samples = said["samples"][self.name]
        metric = self._first_metric(samples[0]["metrics"])
        if said["higher_is_better"][self.name].get(metric) is False:
            raise EvaluationError(f"{self.name}: lower is better by {metric}.", remedy="Put another metric first in metric_list.")
        # A task may extract answers in several ways; the first one named is the one that counts.
        first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
        return [Scored(_said(sample), self._figure(sample, metric)) for sample in sorted(first, key=lambda s: s["doc_id"])]

    def _first_metric(self, found: Sequence[str]) -> str:
        named = [
            entry["metric"] for entry in self.config.get("metric_list") or [] if isinstance(entry, Mapping) and "metric" in entry
        ]
        metric = next((metric for metric in [*named, *found] if metric in found), None)
        if metric is None:
            raise EvaluationError(
                f"{self.name} has no figure of single items ({', '.join(named)}).",
                remedy="Put a metric of single items first in metric_list, such as acc or exact_match.",
            )
        return metric

    def _figure(self, sample: Mapping[str, Any], metric: str) -> float:
        value = sample[metric]
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise EvaluationError(
                f"{self.name}: {metric} of item {sample['doc_id']} is {str(value)[:60]}, no figure from 0 to 1.",
                remedy="Put a metric of single items first in metric_list, such as acc or exact_match.",
            )
        return float(value)

    @contextmanager
    def _offered(self) -> Iterator[dict[str, Any]]:
        """The task file's content with our documents as its dataset."""
        with tempfile.TemporaryDirectory(prefix="ftplatform-task-") as folder:
            for name, content in self.files():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            data_files = {split: f"{folder}/{DOCUMENTS}/{split}.jsonl" for split in self.documents}
            kwargs = {"data_files": data_files, "cache_dir": f"{folder}/cache"}
            yield {**self.config, "dataset_path": "json", "dataset_kwargs": kwargs}


def local_files(path: Path) -> list[Path]:
    """The data files a task file names; none if its data is on the hub. Raises `EvaluationError` as `HarnessTask.read`."""
    named = (read_task_file(path).get("dataset_kwargs") or {}).get("data_files")
    return [] if named is None else sorted(set(map(Path, _leaves(_below(named, path)))))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def _below(value: Any, task_file: Path) -> Any:
    """Data files of a task as paths, wherever the process was started."""
    if isinstance(value, dict):
        return {key: _below(part, task_file) for key, part in value.items()}
    if isinstance(value, list):
        return [_below(part, task_file) for part in value]
    folder = task_file.resolve().parent
    path = (folder / str(value)).resolve()
    if "://" in str(value) or not path.is_relative_to(folder):
        raise EvaluationError(f"{task_file} names the data file {value}, which is not below it.", remedy="Put the file beside it.")
    if not path.is_file():
        raise EvaluationError(f"{task_file} names the data file {value}, and there is none.", remedy="Put the file beside it.")
    return str(path)


def _right(task: Any, document: Any) -> str:
    target = task.doc_to_target(document)
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int) and task.config.doc_to_choice is not None:
        return str(task.doc_to_choice(document)[target])
    return str(target)


def _said(sample: Mapping[str, Any]) -> str:
    """The answer as text: what was generated, or the likeliest of the choices."""
    found = sample["filtered_resps"]
    if all(isinstance(response, str) for response in found):
        return found[0]
    best = max(range(len(found)), key=lambda i: found[i][0])
    return str(sample["arguments"][best][1]).strip()
