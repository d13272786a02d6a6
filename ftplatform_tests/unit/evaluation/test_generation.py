"""Generation on a real (tiny, random) model: determinism, padding, stopping, sampling, scoring, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ftplatform.errors import EvaluationError, UnsafeModel
from ftplatform.evaluation.generation import Decoding, Generator, folder_digest
from ftplatform_tests.unit.evaluation.conftest import write_tiny_model


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


PROMPTS = [ask(text) for text in ("hi", "a rather longer question about refunds", "ok?", "what is this", "hello hello hello", "z")]


@pytest.fixture(scope="module")
def generator(tiny_model: Path, tiny_adapter: Path) -> Generator:
    return Generator.load(tiny_model, tiny_adapter, device="cpu", batch_size=4)


def test_answers_are_the_same_twice_and_in_any_order(generator: Generator) -> None:
    first = generator.generate(PROMPTS, Decoding(max_new_tokens=12))
    assert generator.generate(PROMPTS, Decoding(max_new_tokens=12)) == first
    assert generator.generate(PROMPTS[::-1], Decoding(max_new_tokens=12)) == first[::-1]
    assert len(set(first)) > 1


def test_padding_changes_nothing(tiny_model: Path, generator: Generator) -> None:
    """One at a time there is no padding; in a batch the shorter prompts are padded on the left."""
    alone = Generator.load(tiny_model, device="cpu", batch_size=1)
    assert alone.generate(PROMPTS, Decoding(max_new_tokens=12)) == generator.generate(PROMPTS, Decoding(max_new_tokens=12))


def test_greedy_answers_are_those_of_a_plain_argmax_loop(tiny_model: Path, generator: Generator) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(tiny_model), local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model), local_files_only=True)
    expected = []
    for conversation in PROMPTS:
        ids = tokenizer(f"<|user|>{conversation[0]['content']}<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
        answer: list[int] = []
        with torch.no_grad():
            while len(answer) < 12:
                token = int(model(torch.tensor([ids + answer])).logits[0, -1].argmax())
                if token == tokenizer.eos_token_id:
                    break
                answer.append(token)
        expected.append(tokenizer.decode(answer, skip_special_tokens=True).strip())
    assert generator.generate(PROMPTS, Decoding(max_new_tokens=12)) == expected


def test_adapter_is_switched_on_and_off_over_one_copy_of_the_base(tiny_model: Path, generator: Generator) -> None:
    base_only = Generator.load(tiny_model, device="cpu").generate(PROMPTS, Decoding(max_new_tokens=12))
    before = generator.generate(PROMPTS, Decoding(max_new_tokens=12))
    tuned = generator.generate(PROMPTS, Decoding(max_new_tokens=12), adapter=True)
    after = generator.generate(PROMPTS, Decoding(max_new_tokens=12))
    assert before == after == base_only
    assert tuned != before


def test_system_prompt_changes_what_is_read_and_keeps_the_rows_own(generator: Generator) -> None:
    own = [{"role": "system", "content": "Be kind."}, *ask("hi")]
    plain, joined = generator.render([ask("hi"), own], "You are Tarnwell.")
    assert plain == "<|system|>You are Tarnwell.<|end|><|user|>hi<|end|><|assistant|>"
    assert joined == "<|system|>You are Tarnwell.\n\nBe kind.<|end|><|user|>hi<|end|><|assistant|>"
    assert generator.render([ask("hi")]) == ["<|user|>hi<|end|><|assistant|>"]


def test_sampling_belongs_to_the_prompt_not_to_the_batch(generator: Generator) -> None:
    import torch

    sampled = Decoding(max_new_tokens=16, temperature=1.0, seed=3)
    state = torch.random.get_rng_state()
    first = generator.generate(PROMPTS, sampled)
    assert torch.equal(torch.random.get_rng_state(), state), "the global random state must not be used"
    assert generator.generate(PROMPTS[2:], sampled) == first[2:]
    assert generator.generate(PROMPTS, Decoding(max_new_tokens=16, temperature=1.0, seed=4)) != first
    assert generator.generate(PROMPTS, Decoding(max_new_tokens=16)) != first
    assert sampled.key != Decoding(max_new_tokens=16).key


def test_sampled_first_tokens_follow_the_models_distribution(generator: Generator) -> None:
    """One prompt, 400 seeds, compared with the probabilities of its first token."""
    from scipy.stats import chisquare

    starts = [chr(code) for code in range(33, 127)]
    expected = generator.first_token_probabilities([ask("hi")], starts)[0]
    drawn = [generator.generate([ask("hi")], Decoding(max_new_tokens=1, temperature=1.0, seed=seed))[0] for seed in range(400)]
    counts = np.array([sum(d == start for d in drawn) for start in starts], dtype=float)
    likely = expected > 5 / 400
    observed = np.append(counts[likely], 400 - counts[likely].sum())
    probabilities = np.append(expected[likely], 1 - expected[likely].sum())
    assert likely.sum() >= 3
    assert chisquare(observed, 400 * probabilities).pvalue > 0.001


def test_top_p_keeps_only_the_likely_tokens(generator: Generator) -> None:
    nucleus = Decoding(max_new_tokens=12, temperature=1.0, top_p=1e-6, seed=1)
    assert generator.generate(PROMPTS, nucleus) == generator.generate(PROMPTS, Decoding(max_new_tokens=12))


def test_teacher_forced_logprob_equals_the_unpadded_computation(tiny_model: Path, generator: Generator) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    completions = ["yes", "I'm sorry, but no", "", "a", "12 days", "of course"]
    scored = generator.teacher_forced_logprob(PROMPTS, completions)
    model = AutoModelForCausalLM.from_pretrained(str(tiny_model), local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model), local_files_only=True)
    for i, (conversation, completion) in enumerate(zip(PROMPTS, completions, strict=True)):
        ids = tokenizer(f"<|user|>{conversation[0]['content']}<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
        wanted = tokenizer(completion, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([ids + wanted])).logits[0].double(), -1)
        expected = sum(float(logp[len(ids) - 1 + k, token]) for k, token in enumerate(wanted))
        assert scored.total[i] == pytest.approx(expected, abs=1e-3)
        assert scored.tokens[i] == len(wanted)
    assert np.isnan(scored.mean[2])
    assert scored.mean[0] == pytest.approx(scored.total[0] / 3)
    tuned = generator.teacher_forced_logprob(PROMPTS, completions, adapter=True)
    assert not np.allclose(tuned.total, scored.total)


def test_progress_reaches_the_end(generator: Generator) -> None:
    seen: list[tuple[int, int]] = []
    generator.generate(PROMPTS, Decoding(max_new_tokens=2), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 6), (6, 6)]
    assert generator.generate([], Decoding(max_new_tokens=2)) == []


def test_a_conversation_beyond_the_context_is_named(generator: Generator) -> None:
    with pytest.raises(EvaluationError, match=r"Conversation 1 has 19\d tokens.*the model reads 160"):
        generator.generate([ask("hi"), ask("x" * 190)], Decoding(max_new_tokens=8))
    cut = generator.teacher_forced_logprob([ask("hi")], ["y" * 400])
    assert 0 < cut.tokens[0] < 160


def test_asking_the_adapter_without_one_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(EvaluationError, match="no adapter"):
        Generator.load(tiny_model, device="cpu").generate(PROMPTS, adapter=True)


def test_no_chat_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no chat template"):
        Generator.load(write_tiny_model(tmp_path / "bare", chat_template=None), device="cpu")


def test_pickled_weights_and_remote_code_are_refused(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    import torch

    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_model, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(UnsafeModel, match="no \\*\\.safetensors"):
        Generator.load(pickled, device="cpu")

    remote = tmp_path / "remote"
    shutil.copytree(tiny_model, remote)
    config = json.loads((remote / "config.json").read_text())
    (remote / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(UnsafeModel, match="auto_map"):
        Generator.load(remote, device="cpu")

    adapter = tmp_path / "adapter"
    shutil.copytree(tiny_adapter, adapter)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UnsafeModel, match="safetensors"):
        Generator.load(tiny_model, adapter, device="cpu")

    imported = tmp_path / "imported"
    shutil.copytree(tiny_adapter, imported)
    config = json.loads((imported / "adapter_config.json").read_text())
    (imported / "adapter_config.json").write_text(json.dumps({**config, "megatron_config": {"x": 1}, "megatron_core": "os"}))
    with pytest.raises(UnsafeModel, match="plain LoRA"):
        Generator.load(tiny_model, imported, device="cpu")


def test_digest_names_the_bytes(tiny_model: Path, generator: Generator, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert folder_digest(copy) == folder_digest(tiny_model) == generator.base_digest
    (copy / "config.json").write_bytes((copy / "config.json").read_bytes() + b" ")
    assert folder_digest(copy) != generator.base_digest


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}])
def test_impossible_decoding_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens|temperature"):
        Decoding(**wrong)  # type: ignore[arg-type]
