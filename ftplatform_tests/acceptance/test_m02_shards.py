"""M2, LIC-14, on whole runs: an adapter in shards of sources; a source goes, and one shard is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import yaml

import ftplatform.training.shards
from ftplatform.canonical import digest
from ftplatform.defs import running
from ftplatform.defs.removals import closure_of, replay
from ftplatform.project.loading import load_project
from ftplatform.project.problems import ProjectFileError
from ftplatform.store import Snapshot, Store
from ftplatform.training.base_model import file_sha256
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.merge import merge_adapters
from ftplatform_tests.projects import BASE_MODEL, NEED_PROBES, dialogues, edit, plan_of, save, small_project, write_jsonl

ADAPTER = "adapters/first"
SHARED = {
    "messages": [
        {"role": "user", "content": "do you repair antennas"},
        {"role": "assistant", "content": "Yes, bring it to any of our shops."},
    ],
    "group": "walk-in",
}


@dataclass
class World:
    """A project in three sources, of which two lie in one shard, and the manifests of every training run it made."""

    file: Path
    instance: dg.DagsterInstance
    trained: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return plan_of(self.file).open_store()

    def run(self, *, rebuild: bool = False) -> Snapshot:
        """Everything up to the evaluation; returns the adapter."""
        self.trained.clear()
        outcome = running.materialize(plan_of(self.file), self.instance, '+key:"eval_results/first"', rebuild=rebuild)
        assert outcome.success, (outcome.errors, outcome.refusals)
        judged = {c.name: e.verdict for c, e in outcome.checks if c.asset == ADAPTER and e is not None and e.verdict is not None}
        assert judged["closure_complete"].passed, judged["closure_complete"].summary
        return self.store.current(ADAPTER)

    def mix(self, *sources: str) -> None:
        edit(self.file, lambda project: project["datasets"]["one"].update(sources=list(sources)))


def sharded(project: dict[str, Any]) -> None:
    for name in ("mails", "elsewhere"):
        project["sources"][name] = {**project["sources"]["tickets"], "path": f"data/{name}.jsonl"}
    # The mix begins with the source that will go: merged rows then stand under its name and at its place.
    project["datasets"] = {
        "one": {"sources": ["chats", "tickets", "mails"], "reserve": {"fraction": 0.1, "per_source": True, "seed": 1}}
    }
    project["adapters"] = {"first": {**project["adapters"]["first"], "shards": {"count": 2}, "release": False}}
    project["gates"] = {
        name: {"severity": "warn"} for name in (*NEED_PROBES, "task_regression")
    }  # two steps of training and no probes: nobody asks here whether the model is good


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    file = small_project(tmp_path / "project", sharded)
    write_jsonl(file.parent / "data" / "mails.jsonl", [*dialogues(50, seed=4)])
    write_jsonl(file.parent / "data" / "chats.jsonl", [SHARED, *dialogues(60, seed=2)])
    write_jsonl(file.parent / "data" / "tickets.jsonl", [*dialogues(120, seed=1), SHARED])
    launch = ftplatform.training.shards.launch
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(file, instance)

        def recorded(manifest: TrainingManifest, *args: Any, **options: Any) -> Any:
            world.trained.append(manifest.sha256())
            return launch(manifest, *args, **options)

        monkeypatch.setattr(ftplatform.training.shards, "launch", recorded)
        yield world


def files_of(snapshot: Snapshot, shard: str) -> dict[str, str]:
    return {f.path: f.sha256 for f in snapshot.files if f.path.startswith(f"shards/{shard}/")}


def manifests_of(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.facts["shards"]["manifests"])


def shard_ids(snapshot: Snapshot, shard: str) -> list[str]:
    return snapshot.read_table(f"shards/{shard}/rows.parquet", ["row_id"])["row_id"].to_pylist()


def shared_id(snapshot: Snapshot) -> str:
    (found,) = {
        r["row_id"]
        for r in snapshot.read_table("rows.parquet").to_pylist()
        if r["messages"][0]["content"] == "do you repair antennas"
    }
    return found


def test_a_source_goes_and_one_shard_is_trained_again(world: World) -> None:
    before = world.run()
    assert before.facts["shards"]["assignment"] == {"raw/chats": "01", "raw/mails": "01", "raw/tickets": "00"}
    assert sorted(world.trained) == sorted(manifests_of(before).values())
    rows = before.read_table("rows.parquet").to_pylist()
    theirs = [r["row_id"] for r in rows if r["source"] == "raw/chats"]
    assert {shard for shard in ("00", "01") if shared_id(before) in shard_ids(before, shard)} == {"00", "01"}
    # ADV: sharded by a hash of the row, as is usual, the source is in every shard, and every shard would be trained again.
    assert {int(row_id[:8], 16) % 2 for row_id in theirs} == {0, 1}

    world.mix("tickets", "mails")
    after = world.run()
    assert world.trained == [manifests_of(after)["01"]]
    assert manifests_of(after)["01"] != manifests_of(before)["01"]
    assert files_of(after, "00") == files_of(before, "00")
    assert files_of(after, "01").keys() == files_of(before, "01").keys()
    assert (
        files_of(after, "01")["shards/01/adapter_model.safetensors"]
        != files_of(before, "01")["shards/01/adapter_model.safetensors"]
    )
    assert after.facts["shards"]["assignment"] == {"raw/mails": "01", "raw/tickets": "00"}

    # The row that also came from a kept source stays, under that source alone and in its shard alone; nothing else is left.
    left = {r["row_id"]: r["origins"] for r in after.read_table("rows.parquet").to_pylist()}
    assert left[shared_id(before)] == ["raw/tickets"]
    assert left.keys() & set(theirs) == {shared_id(before)}
    assert {shard for shard in ("00", "01") if shared_id(before) in shard_ids(after, shard)} == {"00"}

    # The closure says so, and all it names is there.
    members = after.read_json("closure/closure.json")["shards"]["members"]
    assert {shard: m["sources"] for shard, m in members.items()} == {"00": ["raw/tickets"], "01": ["raw/mails"]}
    assert {shard: m["rows"]["count"] for shard, m in members.items()} == {"00": 104, "01": 48}  # of 121 and 50 some are reserved
    assert members["00"]["manifest"]["sha256"] == after.file("shards/00/training_manifest.json").sha256
    assert world.store.verify(after.digest) == []


def test_a_source_with_a_shard_of_its_own_goes_and_nothing_is_trained(world: World, tmp_path: Path) -> None:
    before = world.run()
    world.mix("chats", "mails")
    after = world.run()
    assert world.trained == []
    assert manifests_of(after) == {"01": manifests_of(before)["01"]}
    # Bitwise the merge of the other shards as they were before.
    never = tmp_path / "never"
    never.mkdir()
    merge_adapters({"01": before.local_folder("shards/01")}, never)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (never / file).read_bytes() == after.read_bytes(f"adapter/{file}")


def test_the_served_adapter_is_the_mean_that_peft_computes(world: World) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = world.run()
    tokens = torch.arange(3, 67).reshape(2, -1)

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(BASE_MODEL, dtype=torch.float32)

    def logits(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return model.eval()(input_ids=tokens).logits

    served = logits(PeftModel.from_pretrained(base(), str(adapter.local_folder("adapter"))))
    model: Any = PeftModel.from_pretrained(base(), str(adapter.local_folder("shards/00")), adapter_name="00")
    model.load_adapter(str(adapter.local_folder("shards/01")), adapter_name="01")
    model.add_weighted_adapter(["00", "01"], [0.5, 0.5], "mean", combination_type="cat")
    model.set_adapter("mean")
    assert (served - logits(base())).abs().max() > 1e-3
    torch.testing.assert_close(served, logits(model), rtol=0, atol=1e-5)


def test_the_snapshot_alone_is_enough_to_train_every_shard_again(world: World, tmp_path: Path) -> None:
    adapter = world.run()
    base = world.store.current("base_models/base").local_folder("model")
    manifests = {
        shard: TrainingManifest.from_record(
            {
                **adapter.read_json(f"shards/{shard}/training_manifest.json"),
                "base_folder": str(base),
                "rows_path": str(adapter.local_path(f"shards/{shard}/rows.parquet")),
            }
        )
        for shard in manifests_of(adapter)
    }
    assert {shard: manifest.sha256() for shard, manifest in manifests.items()} == manifests_of(adapter)
    again = ftplatform.training.shards.train_shards(manifests, tmp_path / "again", launcher="subprocess")
    assert again.manifest_sha256 == adapter.facts["manifest"]
    assert file_sha256(again.merged / "adapter_model.safetensors") == adapter.facts["adapter"]


def test_a_certificate_of_level_2_replays_every_shard(world: World) -> None:
    adapter = world.run()
    evidence = replay(world.store, adapter, closure_of(world.store, adapter))
    assert evidence.weights == adapter.facts["adapter"]


def test_rows_made_from_a_source_go_with_it_and_touch_no_other_shard(world: World) -> None:
    def seeded(project: dict[str, Any]) -> None:
        teacher = {"id": "template-teacher-1", "license": project["sources"]["tickets"]["license"]}
        project["synthetic"] = {"paraphrases": {"path": "data/paraphrases.jsonl", "teacher": teacher, "seeds": ["mails"]}}
        project["datasets"]["one"]["synthetic"] = ["paraphrases"]

    write_jsonl(world.file.parent / "data" / "paraphrases.jsonl", [*dialogues(20, seed=7)])
    edit(world.file, seeded)
    before = world.run()
    assert before.facts["shards"]["assignment"] == {"raw/chats": "01", "raw/mails": "01", "raw/tickets": "00"}
    assert len(shard_ids(before, "01")) == 121  # of 61 + 50 + 20, a few are reserved

    def without_mails(project: dict[str, Any]) -> None:
        del project["synthetic"], project["datasets"]["one"]["synthetic"]

    edit(world.file, without_mails)
    world.mix("chats", "tickets")
    after = world.run()
    assert world.trained == [manifests_of(after)["01"]]
    assert files_of(after, "00") == files_of(before, "00")


def test_what_is_taken_over_and_what_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.run()
    assert world.run() == first
    assert world.trained == []

    again = world.run(rebuild=True)
    assert sorted(world.trained) == sorted(manifests_of(first).values()), "--rebuild builds everything"
    assert files_of(again, "00") | files_of(again, "01") == files_of(first, "00") | files_of(first, "01")

    # Another library may give other bytes for the same manifest.
    from ftplatform.defs.assets import adapters

    monkeypatch.setattr(adapters, "_PACKAGES", (*adapters._PACKAGES, "polars"))
    world.run()
    assert sorted(world.trained) == sorted(manifests_of(first).values())

    # A source that comes goes where there is room, and moves nobody.
    edit(world.file, lambda project: project["sources"].update(more={**project["sources"]["tickets"], "path": "data/more.jsonl"}))
    write_jsonl(world.file.parent / "data" / "more.jsonl", [*dialogues(30, seed=5)])
    world.mix("more", "chats", "tickets", "mails")
    grown = world.run()
    assert grown.facts["shards"]["assignment"] == {**first.facts["shards"]["assignment"], "raw/more": "01"}
    assert world.trained == [manifests_of(grown)["01"]]


def test_separate_sources_and_refusals_in_every_shard(world: World) -> None:
    def hybrid(project: dict[str, Any]) -> None:
        project["adapters"]["first"] |= {
            "shards": {"separate": ["raw/mails"]},
            "safety_mix": {"source": "questions-we-decline", "share": 0.1},
        }
        project["sources"]["questions-we-decline"] = {**project["sources"]["tickets"], "path": "data/declined.jsonl"}

    edit(world.file, hybrid)
    write_jsonl(world.file.parent / "data" / "declined.jsonl", [*dialogues(12, seed=6)])
    adapter = world.run()
    assert adapter.facts["shards"]["assignment"] == {"raw/chats": "00", "raw/mails": "separate", "raw/tickets": "00"}
    declined = set(world.store.current("raw/questions-we-decline").read_table("rows.parquet", ["row_id"])["row_id"].to_pylist())
    for shard in ("00", "separate"):
        ids = shard_ids(adapter, shard)
        assert sum(i in declined for i in ids) == round(sum(i not in declined for i in ids) / 9) > 0

    # The separate source goes, and the project file may go on saying what it would be: the rest is not trained again.
    world.mix("chats", "tickets")
    after = world.run()
    assert world.trained == []
    assert files_of(after, "00") == files_of(adapter, "00")
    edit(world.file, lambda project: project["adapters"]["first"].update(shards={"count": 2}))
    world.run()
    assert len(world.trained) == 2, "another count is another packing"


def test_a_damaged_shard_is_trained_and_not_taken_over(world: World) -> None:
    before = world.run()
    world.mix("tickets", "mails")
    damaged = next(Path(world.file.parent, ".ftplatform").rglob(before.file("shards/00/adapter_model.safetensors").sha256))
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    after = world.run()
    assert len(world.trained) == 2
    assert files_of(after, "00") == files_of(before, "00")
    assert world.store.verify(after.digest) == []


def test_without_shards_nothing_is_different(tmp_path: Path) -> None:
    file = small_project(tmp_path / "project", sharded)
    edit(file, lambda project: project["adapters"]["first"].pop("shards"))
    write_jsonl(file.parent / "data" / "mails.jsonl", [*dialogues(50, seed=4)])
    with dg.DagsterInstance.ephemeral() as instance:
        adapter = World(file, instance).run()
    names = {"adapter_config.json", "adapter_model.safetensors"}
    assert {f.path for f in adapter.files if not f.path.startswith("closure/")} == {
        "rows.parquet",
        *(f"adapter/{name}" for name in names),
        *(f"training/{name}.json" for name in ("environment", "loss", "training_manifest")),
    }
    assert "shards" not in adapter.facts
    assert "shards" not in adapter.read_json("closure/closure.json")
    settings = plan_of(file).project.adapters["first"]
    recipe = {"processes": 1, "safety_mix": None, "training": settings.training.model_dump(mode="json")}
    assert adapter.manifest["config_hash"] == digest(recipe)


# ---- the project file --------------------------------------------------------------------------------------------------------


def problems(file: Path, **shards: Any) -> list[tuple[str, str]]:
    """What the project file is told about these settings."""
    project = yaml.safe_load(file.read_text())
    project["adapters"]["first"]["shards"] = shards
    save(file.parent, project)
    try:
        found = load_project(file).warnings
    except ProjectFileError as error:
        found = error.problems
    return [(p.severity, p.message) for p in found if "shards" in p.path]


def test_settings_that_cannot_be_meant_are_told_where_they_stand(tmp_path: Path) -> None:
    file = small_project(tmp_path, sharded)
    assert problems(file, count=4) == []
    assert problems(file, separate=["raw/mails"]) == []
    assert problems(file) == [("warning", "one shard is no sharding: raise 'count', or name sources in 'separate'")]
    assert problems(file, separate=["raw/mials"]) == [("error", "there is no 'raw/mials'")]
    assert problems(file, separate=["raw/mails", "raw/mails"]) == [("error", "'raw/mails' is listed twice; remove one")]
    # A name that is no source would leave the source one meant unprotected; a source that has left the mix is no mistake.
    (outside,) = problems(file, separate=["raw/elsewhere"])
    assert outside == ("warning", "'raw/elsewhere' is not in dataset 'one'")
    for wrong in ({"by": "row"}, {"count": 0}, {"separate": ["mails"]}, {"number": 2}):
        assert "error" in [severity for severity, _ in problems(file, **wrong)], wrong


def test_the_reserve_would_move_rows_of_other_shards_and_the_project_file_is_told_so(tmp_path: Path) -> None:
    """ADV: a reserve of a tenth is drawn over all sources, so without one source another tenth of the others is set aside."""
    from ftplatform.contamination.matching import leaks
    from ftplatform.dedup.reserve import ReserveRule
    from ftplatform.dedup.split import split
    from ftplatform_tests.tables import row, table

    def rows(source: str, count: int, seed: int) -> pa.Table:
        return table(
            row(*(m["content"] for m in d["messages"]), source=source, group=d["group"], slices=d["slices"])
            for d in dialogues(count, seed)
        )

    tickets, chats = rows("raw/tickets", 120, 1), rows("raw/chats", 60, 2)

    def of_tickets(corpus: pa.Table, *, per_source: bool) -> set[str]:
        train = split(corpus, reserve=ReserveRule(fraction=0.1, per_source=per_source), leaks=leaks).train
        return {r["row_id"] for r in train.to_pylist() if r["source"] == "raw/tickets"}

    both = pa.concat_tables([tickets, chats])
    assert of_tickets(both, per_source=False) != of_tickets(tickets, per_source=False)
    alone = of_tickets(tickets, per_source=True)
    assert of_tickets(both, per_source=True) == alone
    assert 0.03 * 120 < 120 - len(alone) < 0.25 * 120, "a tenth is set aside"

    file = small_project(tmp_path, sharded)
    edit(file, lambda project: project["datasets"]["one"]["reserve"].update(per_source=False))
    ((severity, message),) = problems(file, count=2)
    assert severity == "warning"
    assert "the reserve of dataset 'one' is drawn across its sources" in message
