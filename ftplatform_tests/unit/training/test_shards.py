"""Shards follow sources: who lies where, what moves when a source comes or goes, and that the merge is the mean, to the bit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import InputDataError, TrainingError
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.training.manifest import TrainingManifest, sequence_sha256
from ftplatform.training.merge import merge_adapters
from ftplatform.training.shards import (
    SEPARATE,
    assign,
    manifests_digest,
    rows_by_source,
    shard_seed,
    split_by_shard,
    supports,
    train_shards,
)
from ftplatform.training.train import train
from ftplatform_tests.tables import row, table

Rows = list[list[dict[str, Any]]]
Build = Callable[..., TrainingManifest]


def placed(rows: pa.Table, assignment: Mapping[str, str], upstream: Mapping[str, pa.Table] | None = None) -> dict[str, pa.Table]:
    return split_by_shard(rows, supports(rows, upstream, [s for s, k in assignment.items() if k == SEPARATE]), assignment)


def sequences(parts: Mapping[str, pa.Table]) -> dict[str, str]:
    """What the manifest of each shard says about its rows."""
    return {shard: sequence_sha256(part) for shard, part in parts.items()}


def ids(part: pa.Table) -> list[str]:
    return part["row_id"].to_pylist()


# ---- sources to shards -------------------------------------------------------------------------------------------------------


def test_sources_are_packed_largest_first_onto_the_emptiest_shard() -> None:
    sizes = {"raw/a": 50, "raw/b": 40, "raw/c": 30, "raw/d": 20, "raw/e": 10}
    assert assign(sizes, count=2) == {"raw/a": "00", "raw/b": "01", "raw/c": "01", "raw/d": "00", "raw/e": "00"}
    assert assign(dict(reversed(sizes.items())), count=2) == assign(sizes, count=2)


def test_separate_sources_share_a_shard_and_the_rest_is_together() -> None:
    sizes = {"raw/a": 5, "raw/b": 7, "raw/risky": 900, "synthetic/odd": 1}
    found = assign(sizes, count=1, separate=["raw/risky", "synthetic/odd"])
    assert found == {"raw/a": "00", "raw/b": "00", "raw/risky": SEPARATE, "synthetic/odd": SEPARATE}


@given(
    st.dictionaries(st.sampled_from([f"raw/{c}" for c in "abcdefghij"]), st.integers(1, 1000), min_size=1),
    st.dictionaries(st.sampled_from([f"raw/{c}" for c in "abcdefghijxyz"]), st.integers(1, 1000), min_size=1),
    st.integers(1, 5),
)
def test_nothing_that_stays_ever_moves(before: dict[str, int], after: dict[str, int], count: int) -> None:
    first = assign(before, count=count, separate=["raw/c"])
    second = assign(after, count=count, separate=["raw/c"], previous=first)
    assert second.keys() == after.keys()
    assert all(second[source] == first[source] for source in before.keys() & after.keys())
    assert assign(after, count=count, separate=["raw/c"], previous=second) == second


def test_packing_anew_would_move_sources_that_nobody_touched() -> None:
    """ADV: packing from scratch is deterministic and balanced, and one departure moves others, so every shard is retrained."""
    sizes = {"raw/a": 50, "raw/b": 40, "raw/c": 30, "raw/d": 20}
    left = {source: rows for source, rows in sizes.items() if source != "raw/a"}
    first = assign(sizes, count=2)
    naive = assign(left, count=2)
    assert {s for s in left if naive[s] != first[s]} == {"raw/b", "raw/d"}
    assert all(assign(left, count=2, previous=first)[s] == first[s] for s in left)


def test_a_shard_that_lost_all_its_sources_is_filled_first() -> None:
    first = assign({"raw/a": 9, "raw/b": 8, "raw/c": 7}, count=3)
    assert assign({"raw/a": 9, "raw/c": 7, "raw/d": 1}, count=3, previous=first)["raw/d"] == first["raw/b"]


def test_a_source_that_becomes_separate_moves_alone() -> None:
    first = assign({"raw/a": 9, "raw/b": 8, "raw/c": 7}, count=2)
    second = assign({"raw/a": 9, "raw/b": 8, "raw/c": 7}, count=2, separate=["raw/b"], previous=first)
    assert second == {**first, "raw/b": SEPARATE}


# ---- rows to shards ----------------------------------------------------------------------------------------------------------


def chat(text: str, source: str, **columns: Any) -> dict[str, Any]:
    return row(f"about {text}", f"This is {text}.", source=source, **columns)


ASSIGNMENT = {"raw/a": "00", "raw/b": "01", "raw/c": "02", "synthetic/s": "02"}


def corpus(*sources: str) -> pa.Table:
    """A mix of these sources with its copies merged; a and b have one row in common, and it comes first in a."""
    rows = {
        "raw/a": [chat("shared", "raw/a"), *(chat(f"a{i}", "raw/a") for i in range(5))],
        "raw/b": [*(chat(f"b{i}", "raw/b") for i in range(5)), chat("shared", "raw/b")],
        "raw/c": [chat(f"c{i}", "raw/c") for i in range(5)],
    }
    return drop_exact_duplicates(table(r for source in sources for r in rows[source]))[0]


@pytest.mark.parametrize("removed", ["raw/a", "raw/b", "raw/c"])
def test_a_removal_changes_one_shard_and_leaves_nothing_of_the_source(removed: str) -> None:
    kept = [source for source in ("raw/a", "raw/b", "raw/c") if source != removed]
    before = placed(corpus("raw/a", "raw/b", "raw/c"), ASSIGNMENT)
    after = placed(corpus(*kept), ASSIGNMENT)
    assert {shard for shard in before if sequences(before).get(shard) != sequences(after).get(shard)} == {ASSIGNMENT[removed]}
    left = {origin for part in after.values() for origins in part["origins"].to_pylist() for origin in origins}
    assert left == set(kept)
    shared = chat("shared", "raw/a")["row_id"]
    holders = {shard for shard, part in after.items() if shared in ids(part)}
    assert holders == {ASSIGNMENT[s] for s in kept if s != "raw/c"}, "the row stays usable wherever an origin is left"


def test_a_row_in_the_shard_of_its_first_origin_alone_costs_two_shards_or_stays_behind() -> None:
    """ADV: `source` names one origin. Follow it, and when that source goes the row moves into another shard, which changes too."""

    def naive(rows: pa.Table) -> dict[str, pa.Table]:
        homes = [ASSIGNMENT[source] for source in rows["source"].to_pylist()]
        return {shard: rows.filter(pa.array([home == shard for home in homes])) for shard in sorted(set(homes))}

    before, after = naive(corpus("raw/a", "raw/b", "raw/c")), naive(corpus("raw/b", "raw/c"))
    assert {s for s in before if sequences(before).get(s) != sequences(after).get(s)} == {"00", "01"}


def test_the_order_of_the_mix_would_move_a_row_inside_the_shard_that_keeps_it() -> None:
    """ADV: the same rows, and yet another manifest: a merged row stands where its first copy stood."""
    before, after = corpus("raw/a", "raw/b"), corpus("raw/b")

    def naive(rows: pa.Table) -> pa.Table:
        return rows.filter(pa.array(["raw/b" in origins for origins in rows["origins"].to_pylist()]))

    assert set(ids(naive(before))) == set(ids(naive(after)))
    assert sequence_sha256(naive(before)) != sequence_sha256(naive(after))
    assert sequences(placed(before, ASSIGNMENT))["01"] == sequences(placed(after, ASSIGNMENT))["01"]


def test_a_mask_that_leaves_with_its_origin_does_change_the_shard() -> None:
    """What a copy masked was masked for all; with that copy gone the text is trained on, and its shard must be trained again."""
    plain, masked = chat("x", "raw/b"), chat("x", "raw/a")
    masked = {**masked, "messages": [{**m, "trainable": False} for m in masked["messages"]]}
    both, _ = drop_exact_duplicates(table([masked, plain]))
    assert sequences(placed(both, ASSIGNMENT))["01"] != sequences(placed(table([plain]), ASSIGNMENT))["01"]


def derived() -> tuple[pa.Table, pa.Table]:
    """Rows of a synthetic set, one seeded by a, one by the other synthetic row, one by nobody; and the seeds' table."""
    seeds = table([chat("seed", "raw/a"), chat("both", "raw/a", origins=["raw/a", "raw/b"])])
    child = chat("child", "synthetic/s", parents=[ids(seeds)[0], "teacher-model"])
    grandchild = chat("grandchild", "synthetic/s", parents=[child["row_id"]])
    free = chat("free", "synthetic/s", parents=["teacher-model"])
    of_both = chat("of both", "synthetic/s", parents=[ids(seeds)[1]])
    return table([child, grandchild, free, of_both]), seeds


def test_derived_rows_lie_with_what_they_were_derived_from() -> None:
    rows, seeds = derived()
    assert supports(rows, {"raw/a": seeds}).to_list() == [["raw/a"], ["raw/a"], ["synthetic/s"], ["raw/a", "raw/b"]]
    # ADV: by their own origins all four lie with the synthetic set, which the removal of raw/a would then change too.
    assert rows["origins"].to_pylist() == [["synthetic/s"]] * 4


def test_a_source_named_as_a_parent_counts_like_its_rows() -> None:
    """Declared seeds stand in the rows of a synthetic set by the name of the source."""
    rows = table([chat("x", "synthetic/s", parents=["raw/b", "teacher-model"]), chat("y", "synthetic/s", parents=["raw/gone"])])
    assert supports(rows, {"raw/b": table([])}).to_list() == [["raw/b"], ["synthetic/s"]]


def test_what_is_separate_stays_separate_whatever_it_was_derived_from() -> None:
    rows, seeds = derived()
    assert supports(rows, {"raw/a": seeds}, ["synthetic/s"]).to_list() == [["synthetic/s"]] * 4
    assert supports(rows, {"raw/a": seeds}, ["raw/a"]).to_list()[0] == ["raw/a"]


def test_an_origin_that_was_struck_does_not_come_back_from_upstream() -> None:
    rows = table([chat("both", "raw/b"), chat("child", "synthetic/s", parents=[chat("both", "raw/b")["row_id"]])])
    seeds = table([chat("both", "raw/a")])
    assert supports(rows, {"raw/a": seeds}).to_list() == [["raw/b"], ["raw/b"]]


def test_a_circle_of_parents_ends() -> None:
    one, two = chat("one", "raw/a"), chat("two", "raw/b")
    circle = table([{**one, "parents": [two["row_id"], one["row_id"]]}, {**two, "parents": [one["row_id"]]}])
    assert supports(circle).to_list() == [["raw/a"], ["raw/b"]]


def test_rows_are_counted_for_every_source_that_keeps_them() -> None:
    assert rows_by_source(supports(corpus("raw/a", "raw/b", "raw/c"))) == {"raw/a": 6, "raw/b": 6, "raw/c": 5}


def test_a_row_without_origin_is_refused() -> None:
    nobody = table([chat("x", "raw/a"), chat("y", "raw/a", origins=[])])
    with pytest.raises(InputDataError, match=f"row {ids(nobody)[1]} has no origin"):
        placed(nobody, ASSIGNMENT)


def test_no_row_is_lost_and_none_is_doubled_inside_a_shard() -> None:
    rng = random.Random(0)
    rows = table(
        chat(str(i), "raw/a", origins=sorted(rng.sample(["raw/a", "raw/b", "raw/c"], rng.randint(1, 3)))) for i in range(500)
    )
    parts = placed(rows, ASSIGNMENT)
    for source, shard in (("raw/a", "00"), ("raw/b", "01"), ("raw/c", "02")):
        wanted = pl.DataFrame({"row_id": rows["row_id"], "origins": rows["origins"]}).filter(
            pl.col("origins").list.contains(source)
        )
        assert ids(parts[shard]) == sorted(wanted["row_id"])


def test_seeds_belong_to_the_shard() -> None:
    seeds = {(seed, shard): shard_seed(seed, shard) for seed in range(3) for shard in ("00", "01", SEPARATE)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds.values())


# ---- the merge ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three adapters on different rows, trained far enough to differ clearly."""
    import pyarrow.parquet as pq

    from ftplatform.training.loop import Optimization
    from ftplatform.training.manifest import LoraSettings, prepare

    folder = tmp_path_factory.mktemp("shards")
    found = {}
    for shard in ("00", "01", SEPARATE):
        path = folder / f"{shard}.parquet"
        pq.write_table(table(chat(f"{shard} number {i}", "raw/a") for i in range(24)), path, write_page_checksum=True)
        manifest = prepare(
            base_model,
            path,
            base_name="tarnwell-base-1m",
            optimization=Optimization(steps=10, batch_size=8, learning_rate=5e-3, seed=shard_seed(0, shard)),
            lora=LoraSettings(rank=3, alpha=8.0),
            max_tokens=128,
            adapter_seed=shard_seed(0, shard),
            precision="fp32",
            device="cpu",
        )
        found[shard] = train(manifest, folder / shard).folder
    return found


def merged(folders: Mapping[str, Path], out: Path) -> Path:
    out.mkdir()
    merge_adapters(folders, out)
    return out


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def logits(base_model: Path, adapter: Path | None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    tokens = torch.arange(3, 35).reshape(1, -1)
    with torch.inference_mode():
        return model.eval()(input_ids=tokens).logits


def test_the_merge_is_the_mean_of_the_changes(trained: dict[str, Path], base_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = merged(trained, tmp_path / "merged")
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (9, 8.0)
    deltas = {name: weights(folder) for name, folder in trained.items()}
    together = weights(out)
    # A mean is small because its parts point elsewhere; against this scale the tolerance is a few units in the last place.
    for key in (k for k in together if ".lora_A." in k):
        b = key.replace(".lora_A.", ".lora_B.")
        one_by_one = torch.stack([8.0 / 3 * d[b].double() @ d[key].double() for d in deltas.values()])
        at_once = 8.0 / 9 * together[b].double() @ together[key].double()
        assert one_by_one.abs().max() > 1e-3
        torch.testing.assert_close(at_once, one_by_one.mean(0), rtol=0, atol=1e-15)
    # The network as it is served: the base with the mean change written into its weights.
    plain: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    for key in (k for k in together if ".lora_A." in k):
        module = plain.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        b = key.replace(".lora_A.", ".lora_B.")
        change = torch.stack([8.0 / 3 * d[b].double() @ d[key].double() for d in deltas.values()]).mean(0)
        module.weight.data = (module.weight.data.double() + change).float()
    tokens = torch.arange(3, 35).reshape(1, -1)
    with torch.inference_mode():
        expected = plain.eval()(input_ids=tokens).logits
    served = logits(base_model, out)
    assert (served - logits(base_model, None)).abs().max() > 0.1, "the adapter does something"
    assert (served - expected).abs().max() < 1e-4
    assert isinstance(PeftModel.from_pretrained(plain, str(out)), PeftModel)


def test_dropping_a_shard_is_bitwise_a_merge_that_never_knew_it(trained: dict[str, Path], tmp_path: Path) -> None:
    import torch

    everything = weights(merged(trained, tmp_path / "all"))
    for position, dropped in enumerate(sorted(trained)):
        never = merged({name: folder for name, folder in trained.items() if name != dropped}, tmp_path / f"without-{dropped}")
        keep = [i for i in range(9) if i // 3 != position]
        for key, tensor in weights(never).items():
            cut = everything[key][keep] if ".lora_A." in key else everything[key][:, keep]
            assert torch.equal(cut, tensor), key
        assert json.loads((never / "adapter_config.json").read_text())["r"] == 6


def test_weights_folded_into_the_factors_would_not_survive_a_drop(trained: dict[str, Path], tmp_path: Path) -> None:
    """ADV: scale each B by 1/S and the sum is the mean as well, but every tensor depends on how many shards there are."""
    import torch

    def naive(names: Sequence[str]) -> dict[str, Any]:
        return {
            key: torch.cat([weights(trained[n])[key] / len(names) for n in names], dim=1)
            for key in weights(trained["00"])
            if ".lora_B." in key
        }

    before, after = naive(["00", "01", SEPARATE]), naive(["00", "01"])
    assert any(not torch.equal(before[key][:, :6], after[key]) for key in after)


def test_the_order_in_which_shards_are_given_means_nothing(trained: dict[str, Path], tmp_path: Path) -> None:
    one, two = merged(trained, tmp_path / "one"), merged(dict(reversed(trained.items())), tmp_path / "two")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_one_shard_alone_is_its_own_merge(trained: dict[str, Path], tmp_path: Path) -> None:
    out = merged({"00": trained["00"]}, tmp_path / "one")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (out / file).read_bytes() == (trained["00"] / file).read_bytes()


def test_what_has_no_exact_mean_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    def changed(name: str, **settings: Any) -> Path:
        folder = Path(shutil.copytree(trained["01"], tmp_path / name))
        config = folder / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
        return folder

    with pytest.raises(TrainingError, match="different settings"):
        merged({"00": trained["00"], "01": changed("alpha", lora_alpha=9.0)}, tmp_path / "a")
    with pytest.raises(TrainingError, match="use_rslora"):
        merged({"01": changed("rs", use_rslora=True)}, tmp_path / "b")
    with pytest.raises(TrainingError, match="no adapter"):
        merged({}, tmp_path / "c")


# ---- training ----------------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_trained(manifest_of: Build, conversations: Rows, tmp_path: Path) -> None:
    manifests = {
        shard: manifest_of(conversations[at : at + 20], steps=3, seed=shard_seed(0, shard), adapter_seed=shard_seed(0, shard))
        for shard, at in (("00", 0), ("01", 20))
    }
    seen: list[tuple[int, int]] = []
    first = train_shards(manifests, tmp_path / "first", progress=lambda *event: seen.append(event))
    assert seen == [(step, 6) for step in range(1, 7)]
    assert sorted(first.trained) == ["00", "01"]
    second = train_shards(manifests, tmp_path / "second", ready={"00": first.folders["00"]})
    assert sorted(second.trained) == ["01"]
    assert first.manifest_sha256 == second.manifest_sha256 == manifests_digest(manifests)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (first.merged / file).read_bytes() == (second.merged / file).read_bytes()
