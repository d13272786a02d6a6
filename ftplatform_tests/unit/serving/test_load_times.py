"""Load times of real adapters in real processes; what is not safe to load is refused before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.serving_loads import make_adapters, published
from ftplatform.errors import InputDataError, UnsafeModel
from ftplatform.serving.load_times import KINDS, LoadTimes, cold_penalty, measure_loads
from ftplatform_tests.projects import BASE_MODEL


@pytest.mark.slow
def test_every_kind_is_measured_and_cold_is_slower_than_warm(tmp_path: Path) -> None:
    loads = measure_loads(BASE_MODEL, make_adapters(BASE_MODEL, tmp_path, 2), rounds=3, processes=1)
    by_kind = {load.what: load for load in loads}
    assert tuple(by_kind) == KINDS
    assert [len(by_kind[kind].seconds) for kind in KINDS] == [1, 3, 1, 6, 6, 6]
    medians = {kind: load.median for kind, load in by_kind.items()}
    assert medians["cold process"] > medians["cold adapter, warm base"] > medians["warm"] > 0
    assert medians["hot swap"] < medians["cold adapter, warm base"]
    assert cold_penalty(loads) == pytest.approx(medians["cold adapter, warm base"] - medians["warm"])


def test_what_was_measured_is_reported_with_its_spread() -> None:
    load = LoadTimes("warm", (0.1, 0.3, 0.2))
    assert load.to_record() == {"what": "warm", "n": 3, "median_s": 0.2, "low_s": 0.1, "high_s": 0.3, "sd_s": 0.1}
    assert LoadTimes("warm", (0.1,)).to_record()["sd_s"] is None
    with pytest.raises(InputDataError, match="no measurement"):
        cold_penalty([load])


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(InputDataError, match=r"adapter_model\.safetensors"):
        measure_loads(BASE_MODEL, [adapter])
    shutil.copy(BASE_MODEL / "model.safetensors", adapter / "adapter_model.safetensors")
    (adapter / "optimizer.pt").write_bytes(b"\x80")
    with pytest.raises(UnsafeModel, match=r"optimizer\.pt"):
        measure_loads(BASE_MODEL, [adapter])
    with pytest.raises(InputDataError, match="no adapter"):
        measure_loads(BASE_MODEL, [])


def test_the_published_load_times(shared_data: Path) -> None:
    """The data's own fact: the median of a 32B model from safetensors is 20.0 s, from ServerlessLLM's format 3.2 s."""
    found = {line["what"]: line for line in published(shared_data)}
    plain, fast = (found[f"h100_2025__random__Qwen_Qwen3-32B_{kind}_30_random"] for kind in ("safetensors", "sllm"))
    assert (plain["n"], fast["n"]) == (30, 30)
    assert (round(plain["median_s"], 1), round(fast["median_s"], 1)) == (20.0, 3.2)
