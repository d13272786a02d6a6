"""Tasks of lm-evaluation-harness on a real (tiny, random) model: the harness itself where it is installed, else what is said."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from ftplatform.errors import EvaluationError
from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.evaluation.harness.harness import HarnessMissing
from ftplatform.evaluation.harness.scores import LM_EVAL_SCHEMA, lm_eval_task

INSTALLED = find_spec("lm_eval") is not None
ITEMS = [{"question": f"how many lamps are {i} lamps?", "answer": str(i)} for i in range(6)]

CHOICE = """
task: lamps_choice
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: 0
doc_to_choice: ["{{{{answer}}}}", "none at all"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata: {{version: 1.0}}
"""

ANSWER = """
task: lamps_answer
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["."], do_sample: false, max_gen_toks: 8}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata: {{version: 2.0}}
"""


@pytest.fixture(scope="module")
def generator(tiny_model: Path, tiny_adapter: Path) -> Generator:
    return Generator.load(tiny_model, tiny_adapter, device="cpu")


def task_file(folder: Path, text: str) -> Path:
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    path = folder / "task.yaml"
    path.write_text(text.format(data=data))
    return path


def test_multiple_choice_agrees_with_the_generator(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = task_file(tmp_path, CHOICE)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    if not INSTALLED:
        with pytest.raises(HarnessMissing, match=r"pip install 'ftplatform\[lm-eval\]'"):
            lm_eval_task(generator, [path])
        return
    table = lm_eval_task(generator, [path])
    assert table.schema == LM_EVAL_SCHEMA
    (row,) = table.to_pylist()
    assert (row["task"], row["task_version"], row["metric"], row["n"]) == ("lamps_choice", "1.0", "acc", 6)
    for who in ("base", "tuned"):
        asked = [[{"role": "user", "content": item["question"]}] for item in ITEMS]
        right, wrong = (
            generator.teacher_forced_logprob(asked, said, adapter=who == "tuned").total
            for said in ([item["answer"] for item in ITEMS], ["none at all"] * len(ITEMS))
        )
        assert row[who] == pytest.approx(float((right > wrong).mean()))
        assert row[f"{who}_se"] is not None


def test_generated_answers_agree_with_the_generator(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    asked = generator.render([[{"role": "user", "content": item["question"]}] for item in ITEMS])
    said = generator.complete([generator.encode(text) for text in asked], Decoding(max_new_tokens=8), adapter=True)
    # The reference of half of the items is what the tuned model says; so the score is known.
    for item, answer in list(zip(ITEMS, said, strict=True))[::2]:
        monkeypatch.setitem(item, "answer", answer.partition(".")[0])
    path = task_file(tmp_path, ANSWER)
    if not INSTALLED:
        with pytest.raises(HarnessMissing):
            lm_eval_task(generator, [str(path)])
        return
    (row,) = lm_eval_task(generator, [str(path)], limit=4).to_pylist()
    assert (row["metric"], row["n"]) == ("exact_match", 4)
    assert row["tuned"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: t\nprocess_docs: !function tools.run\n", "cannot be read"),
        ("task: t\ninclude: ../other.yaml\n", "no self-contained task"),
        ("task: t\nclass: os.system\n", "no self-contained task"),
        ("- a list\n", "no self-contained task"),
        ("group: g\n", "no self-contained task"),
    ],
)
def test_task_files_that_name_code_are_refused(generator: Generator, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "task.yml"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message if INSTALLED else "lm-eval"):
        lm_eval_task(generator, [path])


def test_templates_run_in_a_sandbox(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADV: a template that reaches for Python's builtins."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    path = task_file(tmp_path, CHOICE)
    reach = "{{question.__class__.__mro__[1].__subclasses__()}}"
    path.write_text(path.read_text().replace("{{question}}", reach))
    import jinja2

    assert "Generator" in jinja2.Environment().from_string(reach).render(question="q"), "a plain environment hands them out"
    with pytest.raises(EvaluationError, match="SecurityError" if INSTALLED else "lm-eval"):
        lm_eval_task(generator, [path])


def test_an_unknown_task_is_named(generator: Generator, tiny_model: Path) -> None:
    with pytest.raises(EvaluationError, match="no_such_task" if INSTALLED else "lm-eval"):
        lm_eval_task(generator, ["no_such_task"])
    with pytest.raises(EvaluationError, match="no adapter" if INSTALLED else "lm-eval"):
        lm_eval_task(Generator.load(tiny_model, device="cpu"), ["no_such_task"])
