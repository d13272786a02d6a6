"""Packed rows share a sequence and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import TrainingError
from ftplatform.training.batches import NO_LOSS, Example
from ftplatform.training.loop import Optimization, fit
from ftplatform.training.packing import first_fit, packed, require_isolation


def example(*tokens: int, weight: float = 1.0) -> Example:
    return Example(np.array(tokens), np.array(tokens), weight)


@pytest.fixture(scope="module")
def llama() -> Any:
    """A small model of the bundled one's architecture, random."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    rng = np.random.default_rng(0)
    return [example(*rng.integers(1, 64, size)) for size in (9, 5, 12, 3, 7, 7, 1)]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), st.integers(64, 256))
def test_every_row_has_one_place_and_no_sequence_overflows(lengths: list[int], capacity: int) -> None:
    bins = first_fit(lengths, capacity)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in chosen) <= capacity for chosen in bins)
    # No two sequences could have been one: the later one's first row would have fitted into the earlier.
    loads = sorted(sum(lengths[i] for i in chosen) for chosen in bins)
    assert len(bins) == 1 or loads[0] + loads[1] > capacity


def test_layout() -> None:
    batch = packed([example(4, 5), example(6, 7, 8), example(9, weight=0.5)], 0, 4, weighted=True)
    assert batch.tokens.tolist() == [[6, 7, 8, 9], [4, 5, 0, 0]]
    assert batch.labels.tolist() == [[NO_LOSS, 7, 8, NO_LOSS], [NO_LOSS, 5, NO_LOSS, NO_LOSS]]
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    assert batch.weights is not None
    assert batch.weights.tolist()[0] == [1.0, 1.0, 1.0, 0.5]
    assert batch.mask is None


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_equal_those_of_the_rows_alone(llama: Any, rows: list[Example], attention: str) -> None:
    import torch

    llama.set_attn_implementation(attention)
    batch = packed(rows, 0, 24, weighted=False)
    assert batch.tokens.shape[0] < len(rows)
    assert batch.positions is not None
    tokens, positions = torch.from_numpy(batch.tokens), torch.from_numpy(batch.positions)
    with torch.no_grad():
        together = llama(input_ids=tokens, position_ids=positions, use_cache=False).logits
        naive = llama(input_ids=tokens, use_cache=False).logits
        worst = leaked = 0.0
        for sequence, chosen in enumerate(first_fit([len(r.tokens) for r in rows], 24)):
            start = 0
            for i in chosen:
                end = start + len(rows[i].tokens)
                alone = llama(input_ids=torch.from_numpy(rows[i].tokens)[None], use_cache=False).logits[0]
                worst = max(worst, float((together[sequence, start:end] - alone).abs().max()))
                leaked = max(leaked, float((naive[sequence, start:end] - alone).abs().max()))
                start = end
    assert worst < 1e-5
    # ADV: rows laid one behind the other without positions of their own read their neighbors.
    assert leaked > 0.1


def test_training_packed_is_training(rows: list[Example]) -> None:
    import copy

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    )
    settings = Optimization(steps=3, batch_size=5, learning_rate=1e-2)
    weighted = [Example(r.tokens, r.labels, 1.0 + i % 2) for i, r in enumerate(rows)]
    for examples in (rows, weighted):
        runs = {}
        for pack_to in (None, 24):
            trained = copy.deepcopy(model)
            losses = fit(trained, examples, settings, pad_token=0, bf16=False, pack_to=pack_to)
            runs[pack_to] = losses, torch.cat([p.detach().flatten() for p in trained.parameters()])
        assert runs[24][0] == pytest.approx(runs[None][0], rel=1e-5)
        assert torch.allclose(runs[24][1], runs[None][1], atol=2e-5)


def test_a_model_that_leaks_is_refused(llama: Any) -> None:
    import torch

    class Recurrent(torch.nn.Module):
        """Adds up everything it has read, as a model with a state along the sequence does."""

        def get_input_embeddings(self) -> Any:
            return llama.get_input_embeddings()

        def forward(self, input_ids: Any, **inputs: Any) -> Any:
            answer = llama(input_ids=input_ids, **inputs)
            answer.logits = answer.logits + self.get_input_embeddings()(input_ids).sum(-1).cumsum(1)[..., None]
            return answer

    require_isolation(llama)
    with pytest.raises(TrainingError, match="Recurrent lets packed rows see each other"):
        require_isolation(Recurrent())


def test_a_packed_run_ends_where_an_unpacked_one_does(manifest_of: Any, conversations: Any, tmp_path: Path) -> None:
    from ftplatform.training.train import train

    plain, together = (
        train(manifest_of(conversations, precision="fp32", packing=packing), tmp_path / str(packing)) for packing in (False, True)
    )
    assert together.losses == pytest.approx(plain.losses, rel=1e-4)
    assert together.adapter_sha256 != plain.adapter_sha256  # other last bits, so packing is part of the manifest
    assert together.manifest_sha256 != plain.manifest_sha256
    assert together.throughput.tokens == plain.throughput.tokens
