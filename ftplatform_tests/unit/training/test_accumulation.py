"""A step in parts is the same step: over micro-batches in one process, and over processes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftplatform.training.batches import NO_LOSS, Example, batch_order, collate, micro_batches
from ftplatform.training.loop import Optimization, fit
from ftplatform.training.replica import Replica
from ftplatform.training.throughput import Meter


def rows() -> list[Example]:
    """Sixteen rows that differ much in how many of their tokens are trained, and in weight."""
    rng = np.random.default_rng(3)
    made = []
    for i in range(16):
        tokens = rng.integers(1, 8, 3 + 2 * i)
        labels = tokens.copy()
        labels[: 1 + (i * 5) % len(tokens)] = NO_LOSS
        labels[-1] = tokens[-1]
        made.append(Example(tokens, labels, 1.0 + i % 3))
    return made


def bigrams() -> Any:
    import torch

    class Bigrams(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(8, 8)
            torch.nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(1))

        def forward(self, input_ids: Any, **_: Any) -> Any:
            return SimpleNamespace(logits=self.table(input_ids))

    return Bigrams()


def trained(parts: int, batch_size: int = 8) -> tuple[list[float], Any]:
    model = bigrams()
    settings = Optimization(steps=6, batch_size=batch_size, learning_rate=0.1, micro_batches=parts)
    return fit(model, rows(), settings, pad_token=0, bf16=False), model.table.weight.detach()


def test_a_batch_is_cut_into_parts_of_nearly_equal_size() -> None:
    assert micro_batches(range(7), 3) == [range(0, 2), range(2, 4), range(4, 7)]
    assert micro_batches(range(2), 5) == [range(0, 1), range(1, 2)]


@pytest.mark.parametrize("parts", [2, 3, 8, 50])
def test_accumulation_equals_the_big_batch(parts: int) -> None:
    losses, weights = trained(1)
    in_parts, by_parts = trained(parts)
    assert in_parts == pytest.approx(losses, rel=1e-5)
    assert np.allclose(by_parts, weights, atol=1e-5)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_plain_step_keeps_its_bits(weighted: bool) -> None:
    """What the loop computed before it knew parts and processes: adapters of old recipes keep their hashes."""
    import torch
    from torch.nn import functional

    examples = rows() if weighted else [Example(e.tokens, e.labels) for e in rows()]
    settings = Optimization(steps=6, batch_size=8, learning_rate=0.1)
    model, reference = bigrams(), bigrams()
    losses = fit(model, examples, settings, pad_token=0, bf16=False)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.1, weight_decay=0.0)
    expected = []
    for chosen in batch_order([len(e.tokens) for e in examples], 8, 6, 0):
        tokens, labels, _ = (torch.from_numpy(a) for a in collate([examples[i] for i in chosen], 0))
        targets = labels[:, 1:]
        trained = targets != NO_LOSS
        logits = reference.table(tokens)[:, :-1][trained]
        if weighted:
            weights = torch.tensor([examples[i].weight for i in chosen])[:, None].expand_as(targets)[trained]
            loss = (functional.cross_entropy(logits, targets[trained], reduction="none") * weights).sum() / weights.sum()
        else:
            loss = functional.cross_entropy(logits, targets[trained])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert losses == expected
    assert torch.equal(model.table.weight, reference.table.weight)


def test_the_mean_of_means_is_another_gradient() -> None:
    """ADV: dividing each micro-batch by its own tokens counts a row by the company it keeps."""
    import torch
    from torch.nn import functional

    parts = [rows()[:4], rows()[12:]]

    def gradient(naive: bool) -> Any:
        model = bigrams()
        total = sum(e.trained for part in parts for e in part)
        for part in parts:
            tokens = sum(e.trained for e in part)
            for example in part:
                inputs, labels = torch.from_numpy(example.tokens), torch.from_numpy(example.labels)
                loss = functional.cross_entropy(model.table(inputs[:-1]), labels[1:], reduction="sum")
                (loss / (tokens * len(parts) if naive else total)).backward()
        return model.table.weight.grad

    model = bigrams()
    gradients: list[Any] = []

    class Keep:
        """Reads the gradient that the optimizer gets, and ends the run."""

        def begin(self, state: Any) -> None:
            state.optimizer.register_step_pre_hook(lambda optimizer, *_: gradients.append(model.table.weight.grad.clone()))

        def after_step(self, state: Any) -> bool:
            return True

    batch = [Example(e.tokens, e.labels) for part in parts for e in part]
    settings = Optimization(steps=1, batch_size=8, learning_rate=0.1, micro_batches=2, max_grad_norm=1e9)
    fit(model, batch, settings, pad_token=0, bf16=False, observer=Keep())
    assert torch.allclose(gradients[0], gradient(naive=False), atol=1e-6)
    assert not torch.allclose(gradients[0], gradient(naive=True), atol=1e-3)


def test_the_meter_counts_rows_and_padding() -> None:
    model, meter = bigrams(), Meter()
    fit(model, rows(), Optimization(steps=2, batch_size=8, learning_rate=0.1), pad_token=0, bf16=False, meter=meter)
    read = meter.read()
    assert read.steps == 2
    assert read.tokens == sum(len(e.tokens) for e in rows())
    assert read.trained_tokens == sum(e.trained for e in rows())
    assert 0 < read.padding_share < 0.5
    assert read.tokens_per_second == pytest.approx(read.tokens / read.seconds)
    assert read.mfu is None


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 1), (0, 0)])
def test_a_rank_outside_its_world_is_refused(rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        Replica(rank, world)


_PROCESS = """
import json, sys
import torch
from ftplatform.training.loop import Optimization, fit
from ftplatform.training.replica import Replica
from ftplatform_tests.unit.training.test_accumulation import bigrams, rows
rank, world, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
model = bigrams()
settings = Optimization(steps=6, batch_size=7, learning_rate=0.1, micro_batches=2)
losses = fit(model, rows(), settings, pad_token=0, bf16=False, replica=Replica(rank, world))
print(json.dumps({"losses": losses, "weights": model.table.weight.detach().flatten().tolist()}))
torch.distributed.destroy_process_group()
"""


def in_processes(script: str, world: int, *arguments: str, cwd: Path) -> list[dict[str, Any]]:
    """Runs `script` as `world` processes on loopback; their last lines as JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(world), address, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        for rank in range(world)
    ]
    try:
        said = [child.communicate(timeout=240) for child in started]
        assert [child.returncode for child in started] == [0] * world, "\n".join(error[-3000:] for _, error in said)
        answers = [json.loads(out.splitlines()[-1]) for out, _ in said]
    finally:
        for child in started:
            child.kill()
            child.wait()
    return answers


def test_two_processes_equal_one(repository: Path) -> None:
    """Batches of seven, so the shares differ in rows, trained tokens and weight."""
    losses, weights = trained(1, batch_size=7)
    answers = in_processes(_PROCESS, 2, cwd=repository)
    assert answers[0] == answers[1]  # bit for bit
    assert answers[0]["losses"] == pytest.approx(losses, rel=1e-5)
    assert np.allclose(answers[0]["weights"], weights.flatten(), atol=1e-5)


_RESUMED = """
import json, sys
from pathlib import Path
import torch
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.replica import Replica
from ftplatform.training.train import train
rank, world, address, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
manifest = TrainingManifest.from_record(json.loads((folder / "manifest.json").read_bytes()))
replica = Replica(rank, world)
whole = train(manifest, folder / "whole", replica=replica)
def stop(step, loss):
    if step == 5:
        raise KeyboardInterrupt
try:
    train(manifest, folder / "resumed", work=folder / "work", save_every=2, replica=replica, progress=stop)
except KeyboardInterrupt:
    pass
resumed = train(manifest, folder / "resumed", work=folder / "work", save_every=2, replica=replica)
print(json.dumps([whole.adapter_sha256, resumed.adapter_sha256, resumed.resumed_from, list(whole.losses), resumed.throughput.steps]))
torch.distributed.destroy_process_group()
"""


def test_processes_resume_together(manifest_of: Any, conversations: Any, repository: Path, tmp_path: Path) -> None:
    """With dropout: each process goes on with its own random numbers."""
    from ftplatform.errors import TrainingError
    from ftplatform.training.manifest import LoraSettings
    from ftplatform.training.train import train

    manifest = manifest_of(conversations, lora=LoraSettings(rank=4, alpha=8.0, dropout=0.2), world=2)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest.to_record()))
    answers = in_processes(_RESUMED, 2, str(tmp_path), cwd=repository)
    assert answers[0] == answers[1]
    whole, resumed, resumed_from, _, steps = answers[0]
    assert resumed == whole
    assert (resumed_from, steps) == (4, 2)
    with pytest.raises(TrainingError, match="for 2 processes and 1 train it"):
        train(manifest, tmp_path / "alone")
