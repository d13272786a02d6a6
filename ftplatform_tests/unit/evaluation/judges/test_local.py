"""A model folder as judge. The model here is random, so its answers are noise: what counts is what becomes of noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.judges.interface import JudgeItem
from ftplatform.evaluation.judges.local import LocalChat
from ftplatform.evaluation.judges.model_judge import ModelJudge
from ftplatform.evaluation.judges.prompting import JudgePrompt
from ftplatform.evaluation.judges.transcripts import Transcripts
from ftplatform.store import Store
from ftplatform_tests.unit.evaluation.conftest import write_tiny_model

PROMPT = JudgePrompt({"ok": "Fine?"}, "Grade.")
ITEMS = [JudgeItem(f"i{k}", [{"role": "user", "content": "?"}], f"a{k}") for k in range(3)]


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Generator:
    return Generator.load(tiny_model, device="cpu")


def judge(generator: Generator, transcripts: Transcripts, limit: int = 8) -> ModelJudge:
    chat = LocalChat(generator, "tiny", max_new_tokens=limit)
    return ModelJudge(id="local", family="tiny", version="1", prompt=PROMPT, chat=chat, transcripts=transcripts)


def test_noise_is_quarantined_recorded_and_replayed(generator: Generator, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    first = judge(generator, Transcripts(Store.open(store).backend)).judge(ITEMS)
    assert [v.item_id for v in first.quarantined] == ["i0", "i1", "i2"]
    assert first.calls == 3
    said = {row["request"]: row for row in first.transcripts.to_pylist()}
    expected = generator.generate(
        [PROMPT.messages(item) for item in ITEMS], LocalChat(generator, "tiny", max_new_tokens=8).decoding
    )
    assert [said[str(v.request)]["answer"] for v in first.verdicts] == expected
    assert all(row["model"] == "tiny" and row["prompt_tokens"] > 0 for row in said.values())
    again = judge(generator, Transcripts(Store.open(store).backend)).judge(ITEMS)
    assert again.calls == 0
    assert again.transcripts.equals(first.transcripts)


def test_another_model_or_limit_is_asked_anew(generator: Generator, tmp_path: Path) -> None:
    transcripts = Transcripts()
    judge(generator, transcripts).judge(ITEMS)
    assert judge(generator, transcripts, limit=9).judge(ITEMS).calls == 3
    other = write_tiny_model(tmp_path / "other")
    (other / "note.txt").write_text("one file more is another model")
    assert judge(Generator.load(other, device="cpu"), transcripts).judge(ITEMS).calls == 3
    assert judge(generator, transcripts).judge(ITEMS).calls == 0
