"""Preference tuning: what was chosen gains on prompts never seen, the bytes repeat, and what length explains is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.errors import TrainingError
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings
from ftplatform.training.preference.manifest import PreferenceManifest, prepare
from ftplatform.training.preference.pairs import PREFERENCE_SCHEMA, encode_pairs, pairs_sha256, read_pairs
from ftplatform.training.preference.statistics import length_statistics
from ftplatform.training.preference.train import preference_margins, train_on_preferences

Pair = tuple[str, str, str]
Build = Callable[..., PreferenceManifest]


def pair_table(pairs: Sequence[Pair]) -> pa.Table:
    """(prompt, chosen, rejected) as the columns preference tuning reads."""
    rows = [
        {
            "row_id": f"pair-{i}",
            "prompt": [{"role": "user", "content": prompt, "trainable": False}],
            "chosen": chosen,
            "rejected": rejected,
        }
        for i, (prompt, chosen, rejected) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, PREFERENCE_SCHEMA)


def polite(numbers: Sequence[int], thing: str = "lamp") -> list[Pair]:
    """Same facts, preferred in one wording; every second chosen answer is the shorter one."""
    return [
        (
            f"what color is {thing} {i}",
            f"Glad to help. It is {'red' if i % 2 else 'a bright and shiny red'}.",
            f"Go away. It is {'a bright and shiny red' if i % 2 else 'red'}.",
        )
        for i in numbers
    ]


@pytest.fixture
def preferences(base_model: Path, tmp_path: Path) -> Build:
    written = 0

    def build(pairs: Sequence[Pair], *, steps: int = 3, **overrides: Any) -> PreferenceManifest:
        nonlocal written
        written += 1
        path = tmp_path / f"pairs-{written}.parquet"
        pq.write_table(pair_table(pairs), path, write_page_checksum=True)
        settings: dict[str, Any] = {
            "base_name": "tarnwell-base-1m",
            "optimization": Optimization(steps=steps, batch_size=8, learning_rate=2e-3),
            "lora": LoraSettings(rank=4, alpha=8.0),
            "max_tokens": 128,
            "precision": "fp32",
            "device": "cpu",
        }
        return prepare(base_model, path, **(settings | overrides))

    return build


def test_chosen_answers_gain_on_prompts_never_seen(preferences: Build, base_model: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    result = train_on_preferences(
        preferences(polite(range(40)), steps=15), tmp_path / "adapter", progress=lambda step, _: seen.append(step)
    )
    assert seen == list(range(1, 16))
    first, last = result.steps[0], result.steps[-1]
    # Before the first update model and reference are the same: no reward, every pair a tie.
    assert first.loss == pytest.approx(np.log(2), abs=1e-6)
    assert first.accuracy == pytest.approx(0.5)
    assert last.loss < 0.5 * first.loss
    assert last.margin == pytest.approx(last.chosen_reward - last.rejected_reward, abs=1e-5)
    held_out = pair_table([*polite(range(100, 110)), *polite(range(200, 210), "the door of house")])
    gain = preference_margins(held_out, base_model, result.folder) - preference_margins(held_out, base_model)
    assert (gain > 1).all(), gain
    assert sorted(p.name for p in result.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "environment.json",
        "loss.json",
        "training_manifest.json",
    ]
    recorded = json.loads((result.folder / "loss.json").read_text())
    assert recorded["margin"] == [step.margin for step in result.steps]
    assert recorded["encoding"]["pairs"] == 40
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    with pytest.raises(TrainingError, match="already holds something"):
        train_on_preferences(preferences(polite(range(8))), result.folder)


def test_two_processes_give_the_same_bytes(preferences: Build, tmp_path: Path) -> None:
    manifest = preferences(polite(range(12)), precision="auto", lora=LoraSettings(rank=4, alpha=8.0, dropout=0.1))
    described = tmp_path / "manifest.json"
    described.write_text(json.dumps(manifest.to_record()))
    code = (
        "import json, pathlib, random, sys, torch; torch.rand(random.randrange(99))\n"
        "from ftplatform.training.preference.manifest import PreferenceManifest\n"
        "from ftplatform.training.preference.train import train_on_preferences\n"
        "manifest = PreferenceManifest.from_record(json.loads(pathlib.Path(sys.argv[1]).read_bytes()))\n"
        "train_on_preferences(manifest, pathlib.Path(sys.argv[2]))\n"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(described), str(tmp_path / seed)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, timeout=300)
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "2").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
        assert str(tmp_path).encode() not in (tmp_path / "1" / name).read_bytes(), name


def test_settings_reach_the_bytes_and_the_hash(preferences: Build, tmp_path: Path) -> None:
    pairs = polite(range(12))
    variants = {
        "reference": preferences(pairs),
        "beta": preferences(pairs, beta=0.5),
        "sides exchanged": preferences([(prompt, rejected, chosen) for prompt, chosen, rejected in pairs]),
        "another order": preferences(pairs[::-1]),
    }
    adapters = {name: train_on_preferences(m, tmp_path / f"{i}").adapter_sha256 for i, (name, m) in enumerate(variants.items())}
    assert len(set(adapters.values())) == len(adapters), adapters
    assert len({m.sha256() for m in variants.values()}) == len(variants)
    assert preferences(pairs).sha256() == variants["reference"].sha256()


def test_micro_batches_are_the_same_step(preferences: Build, tmp_path: Path) -> None:
    manifest = preferences(polite(range(12)))
    whole = train_on_preferences(manifest, tmp_path / "whole")
    in_parts = replace(manifest, optimization=replace(manifest.optimization, micro_batches=3))
    parts = train_on_preferences(in_parts, tmp_path / "parts")
    assert [s.loss for s in parts.steps] == pytest.approx([s.loss for s in whole.steps], abs=1e-5)


def test_longer_chosen_answers_are_visible_where_loss_and_accuracy_look_well(preferences: Build, tmp_path: Path) -> None:
    padding = " Thank you so much for asking this, we are always very glad to be of help to you in every way we can."
    exploding = [(f"what color is lamp {i}", f"Lamp {i} is red.{padding}", f"Lamp {i} is blue.") for i in range(40)]
    results = {
        name: train_on_preferences(preferences(pairs, steps=12), tmp_path / name)
        for name, pairs in (("exploding", exploding), ("balanced", polite(range(40))))
    }
    # What a run is usually judged by says the same of both.
    for result in results.values():
        assert result.steps[-1].accuracy == 1
        assert result.steps[-1].loss < 0.5 * result.steps[0].loss
    told = {name: json.loads((r.folder / "loss.json").read_text())["lengths"] for name, r in results.items()}
    assert told["exploding"]["reading"] == "length_predicts_preference"
    assert told["exploding"]["longer_chosen"] == 1
    assert told["exploding"]["low"] > 0.9
    assert told["exploding"]["ratio"] > 2
    assert told["balanced"]["reading"] == "no_length_preference_shown"
    assert told["balanced"]["longer_chosen"] == 0.5


def test_few_pairs_say_nothing_about_length(tokenizer: Any) -> None:
    few = [(f"what color is lamp {i}", f"Lamp {i} is red, as far as we know.", "Red.") for i in range(29)]
    lengths = length_statistics(encode_pairs(pair_table(few), tokenizer, max_tokens=128))
    assert lengths["longer_chosen"] == 1
    assert lengths["reading"] == "insufficient_evidence"
    assert lengths["low"] is None


def test_pairs_that_are_no_comparison_are_left_out_and_listed(tokenizer: Any) -> None:
    pairs = polite(range(300))
    pairs[3] = ("what color is lamp 3", "Red.", "Red.")
    pairs[7] = ("what color is lamp 7", f"Red.{tokenizer.eos_token}", "Red.")
    table = pair_table(pairs).to_pylist()
    # The earlier exchange fits beside the short answer only: the two sides would be answers to different prompts.
    table[9]["prompt"] = [
        {"role": "user", "content": "is it red or blue or green " * 4, "trainable": False},
        {"role": "assistant", "content": "Yes.", "trainable": False},
        *table[9]["prompt"],
    ]
    table[9]["chosen"] = "It is red " * 10
    # Fits beside neither: both sides lose it.
    table[11]["prompt"] = [
        {"role": "user", "content": "is it red or blue or green " * 9, "trainable": False},
        {"role": "assistant", "content": "Yes.", "trainable": False},
        *table[11]["prompt"],
    ]
    encoded = encode_pairs(pa.Table.from_pylist(table, PREFERENCE_SCHEMA), tokenizer, max_tokens=80)
    assert len(encoded.row_ids) == 297
    assert [row for row, _ in encoded.left_out] == ["pair-3", "pair-7", "pair-9"]
    assert [why.split()[0] for _, why in encoded.left_out] == ["both", "chosen:", "only"]
    assert encoded.row_ids[3] == "pair-4"
    assert encoded.cut == ["pair-11"]
    prompts = [[e.tokens[e.labels == -100].tolist() for e in side] for side in (encoded.chosen, encoded.rejected)]
    assert prompts[0] == prompts[1]
    with pytest.raises(TrainingError, match="1 of 7 preference rows cannot be used"):
        encode_pairs(pa.Table.from_pylist(table[:7], PREFERENCE_SCHEMA), tokenizer, max_tokens=80)


def test_what_is_wrong_with_the_input_is_named(preferences: Build, base_model: Path, tmp_path: Path) -> None:
    manifest = preferences(polite(range(8)))
    assert PreferenceManifest.from_record(json.loads(json.dumps(manifest.to_record()))) == manifest
    with pytest.raises(TrainingError, match="not readable"):
        PreferenceManifest.from_record({**manifest.to_record(), "surprise": 1})
    with pytest.raises(TrainingError, match="no preference manifest"):
        PreferenceManifest.from_record({"schema": "ftplatform.training/2"})
    with pytest.raises(TrainingError, match="beta is 0"):
        replace(manifest, beta=0.0)
    other = preferences(polite(range(8))[::-1])
    with pytest.raises(TrainingError, match="not those of the manifest"):
        train_on_preferences(replace(manifest, rows_path=other.rows_path), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(TrainingError, match="no rows"):
        preferences([])
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"no parquet")
    with pytest.raises(TrainingError, match="cannot be read as preference rows"):
        read_pairs(bad)
    answered = pair_table(polite(range(2))).to_pylist()
    answered[1]["prompt"].append({"role": "assistant", "content": "Red.", "trainable": True})
    pq.write_table(pa.Table.from_pylist(answered, PREFERENCE_SCHEMA), bad)
    with pytest.raises(TrainingError, match="pair-1"):
        read_pairs(bad)
    nameless = pa.table(
        {**{n: pair_table(polite(range(1)))[n] for n in ("row_id", "prompt", "chosen")}, "rejected": pa.nulls(1, pa.string())}
    )
    pq.write_table(nameless, bad)
    with pytest.raises(TrainingError, match="rejected"):
        read_pairs(bad)
    assert pairs_sha256(pair_table(polite(range(2)))) != pairs_sha256(pair_table(polite(range(2))[::-1]))
