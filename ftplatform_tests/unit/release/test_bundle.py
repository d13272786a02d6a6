"""The release bundle: built from real parts, verified, and broken in every way that is cheap."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, FtplatformError, UnsafeModel
from ftplatform.licensing.ledger import ledger_table
from ftplatform.licensing.notices import notices
from ftplatform.licensing.obligations import obligations_met
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.terms import Kind
from ftplatform.release.bundle import INDEX, Release, build_release, verify_release
from ftplatform.store import Evaluation, SnapshotDraft, Store
from ftplatform.store.waivers import Waiver
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.unit.closure.factories import clean_closure, hex_of, small_package
from ftplatform_tests.unit.licensing.factories import known

HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) | ![](https://evil.example/pixel) `a`"


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """An evaluation with a real record in a real store."""
    store = Store.open(str(tmp_path / "store"))
    draft = SnapshotDraft("eval_results/support", code_version="1", config_hash="c", environment="e")
    draft.add_bytes("results.json", b"{}")
    snapshot = store.write(draft)
    verdict = Verdict(
        decision=Decision.PASS,
        summary=HOSTILE,
        statistic=f"loss of refusal rate {HOSTILE}",
        n=1210,
        n_required=124,
        estimate=0.01234,
        ci_low=None,
        ci_high=1.0,
        confidence=0.95,
        threshold=0.05,
        evidence=[{"row": "a", "score": 0.5}],
        remedy="Nothing to do.",
        check_version="1",
        config={"margin": 0.05, "seeds": (1, 2)},
        plot="<svg/>",
    )
    return store.record_evaluation(
        "eval_results/support",
        "refusal_retention",
        judged={"eval_results/support": snapshot.digest},
        verdict=verdict,
        blocking=True,
        severity="error",
        run_id="r1",
        evaluated_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def parts(tmp_path: Path, evaluation: Evaluation) -> dict[str, Any]:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"lora_A": np.ones((2, 3), dtype=np.float32)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "auto_mapping": null}')
    closure, _ = clean_closure(small_package(tmp_path))
    manifest = json.loads(closure.document)
    manifest["subject"]["files"] = [
        {"path": path.name, "sha256": sha256_hex(path.read_bytes()), "size": path.stat().st_size}
        for path in sorted(adapter.iterdir())
    ]
    terms = [known("raw/tickets", "CC-BY-4.0"), known("base_models/tiny", "llama3.1", kind=Kind.BASE_MODEL)]
    owed = notices(terms, ["train", "redistribute_weights"], default_policy(), confirmations={"attribution": "The ticket people"})

    def obligations(card: str, files: Mapping[str, bytes]) -> Verdict:
        return obligations_met(owed, release="support", card=card, files=files, policy=default_policy())

    return {
        "name": "support",
        "adapter_folder": adapter,
        "closure": canonical_json(manifest),
        "evaluations": [evaluation],
        "ledger": ledger_table(terms, default_policy()),
        "notices": owed,
        "obligations": obligations,
        "license_texts": {"licenses/raw/tickets.txt": b"The terms, as read."},
        "description": HOSTILE,
    }


@pytest.fixture
def release(tmp_path: Path, parts: dict[str, Any]) -> Release:
    return build_release(tmp_path / "out" / "release", **parts)


def test_a_built_release_verifies(release: Release) -> None:
    assert verify_release(release.folder) == []
    assert verify_release(release.folder, digest=release.digest) == []
    assert sha256_hex((release.folder / INDEX).read_bytes()) == release.digest
    assert [p.name for p in release.folder.parent.iterdir()] == ["release"], "no temporary folder is left"


def test_the_same_parts_make_the_same_release(tmp_path: Path, parts: dict[str, Any], release: Release) -> None:
    assert build_release(tmp_path / "again", **parts).digest == release.digest


def test_the_bundle_is_readable_where_nothing_else_of_ours_is(release: Release) -> None:
    from safetensors.numpy import load_file

    assert load_file(release.folder / "adapter" / "adapter_model.safetensors")["lora_A"].shape == (2, 3)
    index = json.loads((release.folder / INDEX).read_text())
    assert index["signature"] is None
    assert index["closure"] == sha256_hex((release.folder / "closure.json").read_bytes())


def test_the_card_has_front_matter_and_says_that_it_is_unsigned(release: Release) -> None:
    card = (release.folder / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["library_name"] == "peft"
    assert matter["license"] == "other"
    assert matter["license_link"] == "NOTICE.md"
    assert "**This release is not signed.**" in body
    assert "raw/tickets | source | CC-BY-4.0 | active" in body


def test_every_number_of_an_evaluation_stands_beside_the_hash_of_its_record(release: Release, evaluation: Evaluation) -> None:
    card = (release.folder / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| refusal"))
    assert str(evaluation.record)[:16] in row
    for number in ("0.01234", "0.05", "1,210", "[…, 1]"):
        assert number in row
    checks = json.loads((release.folder / "checks.json").read_text())
    assert sha256_hex(canonical_json(checks[0]["document"])) == evaluation.record


def test_text_from_outside_is_inert(release: Release) -> None:
    for name in ("README.md", "NOTICE.md"):
        text = (release.folder / name).read_text()
        assert "<script" not in text
        assert "](" not in text.replace("\\](", "").replace("\\]", "]_")
        assert "![" not in text.replace("\\!\\[", "")
    row = next(line for line in (release.folder / "README.md").read_text().splitlines() if line.startswith("| refusal"))
    assert row.replace("\\|", "").count("|") == 10


def test_what_is_owed_is_listed_and_license_texts_travel_along(release: Release) -> None:
    notice = (release.folder / "NOTICE.md").read_text()
    assert "## raw/tickets" in notice
    assert "attribution" in notice
    assert "Let the name of the model begin with 'Llama'." in notice
    texts = list((release.folder / "licenses").iterdir())
    assert [text.read_bytes() for text in texts] == [b"The terms, as read."]
    assert texts[0].name in notice


# ---- tampering


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _files(release: Release) -> list[str]:
    return sorted(p.relative_to(release.folder).as_posix() for p in release.folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("how", ["flip", "remove", "empty"])
def test_any_damaged_file_is_found_and_named(release: Release, how: str) -> None:
    for path in _files(release):
        place = release.folder / path
        original = place.read_bytes()
        {"flip": _flip, "remove": Path.unlink, "empty": lambda p: p.write_bytes(b"")}[how](place)
        problems = verify_release(release.folder, digest=release.digest)
        assert path in [problem.path for problem in problems], path
        place.write_bytes(original)
    assert verify_release(release.folder) == []


def test_an_added_file_is_found(release: Release) -> None:
    (release.folder / "adapter" / "extra.bin").write_bytes(b"x")
    assert [str(p) for p in verify_release(release.folder)] == ["adapter/extra.bin: is not listed in bundle.json"]


def test_links_are_found(release: Release, tmp_path: Path) -> None:
    weights = release.folder / "adapter" / "adapter_model.safetensors"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    weights.unlink()
    weights.symlink_to(copy)
    assert next((p.path, p.problem) for p in verify_release(release.folder)) == ("adapter/adapter_model.safetensors", "is a link")
    weights.unlink()
    weights.write_bytes(copy.read_bytes())
    (release.folder / "more").symlink_to(tmp_path)
    assert [p.path for p in verify_release(release.folder)] == ["more"]


def _rewrite(release: Release, edit: Callable[[dict[str, bytes]], None]) -> None:
    """Change files and make bundle.json agree: what somebody who can write the folder would do."""
    index = json.loads((release.folder / INDEX).read_text())
    files = {entry["path"]: (release.folder / entry["path"]).read_bytes() for entry in index["files"]}
    edit(files)
    index["files"] = [{"path": p, "sha256": sha256_hex(d), "size": len(d)} for p, d in sorted(files.items())]
    for path, data in files.items():
        (release.folder / path).write_bytes(data)
    (release.folder / INDEX).write_bytes(canonical_json(index))


def _better(files: dict[str, bytes]) -> None:
    files["README.md"] = files["README.md"].replace(b"0.01234", b"0.00001")


def _better_record(files: dict[str, bytes]) -> None:
    files["checks.json"] = files["checks.json"].replace(b'"estimate":0.01234', b'"estimate":0.00001')


def _other_weights(files: dict[str, bytes]) -> None:
    files["adapter/adapter_config.json"] += b" "


def _other_closure(files: dict[str, bytes]) -> None:
    files["closure.json"] = files["closure.json"].replace(b'"threads":1', b'"threads":2')


def _no_notice(files: dict[str, bytes]) -> None:
    files["NOTICE.md"] = b"# NOTICE for support\n"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_better, "README.md"),
        (_better_record, "checks.json"),
        (_other_weights, "adapter"),
        (_other_closure, "closure.json"),
        (_no_notice, "NOTICE.md"),
    ],
)
def test_consistent_tampering_contradicts_the_evidence_inside(
    release: Release, edit: Callable[[dict[str, bytes]], None], named: str
) -> None:
    _rewrite(release, edit)
    assert named in [problem.path for problem in verify_release(release.folder)]
    assert verify_release(release.folder, digest=release.digest)[0].path == INDEX


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": [{}]}',
        b'{"schema":"ftplatform.release/9","files":[],"name":"","description":"","closure":"","signature":null}',
    ],
)
def test_malformed_indexes_are_problems_not_crashes(release: Release, index: bytes) -> None:
    (release.folder / INDEX).write_bytes(index)
    assert [p.path for p in verify_release(release.folder)] == [INDEX]


def test_paths_out_of_the_bundle_are_not_followed(release: Release, tmp_path: Path) -> None:
    (tmp_path / "out" / "secret").write_bytes(b"secret")
    index = json.loads((release.folder / INDEX).read_text())
    for path in ("../secret", "/etc/hostname", "adapter/../../secret", "a\\b"):
        bad = {**index, "files": [*index["files"], {"path": path, "sha256": sha256_hex(b"secret"), "size": 6}]}
        (release.folder / INDEX).write_bytes(canonical_json(bad))
        assert (path, "is no path inside the bundle") in [(p.path, p.problem) for p in verify_release(release.folder)]


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    assert [p.path for p in verify_release(tmp_path)] == [INDEX]


# ---- what is not released


def test_pickles_code_and_broken_weights_are_refused(tmp_path: Path, parts: dict[str, Any]) -> None:
    adapter = parts["adapter_folder"]

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("ran",))

    for name, data, message in [
        ("adapter_model.bin", pickle.dumps(Evil()), "no place"),
        ("modeling.py", b"print()", "no place"),
        ("more.safetensors", b"\xff" * 64, "well-formed"),
        ("config.json", b'{"auto_map": {"AutoModel": "modeling.Evil"}}', "auto_map"),
    ]:
        (adapter / name).write_bytes(data)
        with pytest.raises(UnsafeModel, match=message):
            build_release(tmp_path / "no", **parts)
        (adapter / name).unlink()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UnsafeModel, match="no safetensors"):
        build_release(tmp_path / "no", **parts)
    assert not (tmp_path / "no").exists()


def test_weights_of_another_closure_are_refused(tmp_path: Path, parts: dict[str, Any]) -> None:
    save_file({"lora_A": np.zeros((2, 3), dtype=np.float32)}, parts["adapter_folder"] / "adapter_model.safetensors")
    with pytest.raises(CorruptArtifact, match="not the file the closure names"):
        build_release(tmp_path / "no", **parts)


def test_evaluations_must_be_finished_and_genuine(tmp_path: Path, parts: dict[str, Any], evaluation: Evaluation) -> None:
    assert evaluation.verdict is not None
    for bad, error in [
        ([], FtplatformError),
        ([replace(evaluation, state="running", verdict=None, record=None)], FtplatformError),
        ([replace(evaluation, record=hex_of("other"))], CorruptArtifact),
        ([replace(evaluation, verdict=replace(evaluation.verdict, estimate=0.0))], CorruptArtifact),
    ]:
        with pytest.raises(error):
            build_release(tmp_path / "no", **{**parts, "evaluations": bad})


def test_an_existing_folder_is_not_touched(tmp_path: Path, parts: dict[str, Any]) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FtplatformError, match="exists"):
        build_release(tmp_path / "there", **parts)


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    out = tmp_path / "full" / "release"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            build_release(out, **parts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert list(out.parent.iterdir()) == []


# ---- waivers and obligations


@pytest.fixture
def refused(tmp_path: Path, evaluation: Evaluation) -> tuple[Store, Evaluation]:
    """A failed evaluation beside the one that passed, in the same store."""
    store = Store.open(str(tmp_path / "store"))
    assert evaluation.verdict is not None
    again = store.record_evaluation(
        "eval_results/support",
        "overrefusal_retention",
        judged=evaluation.judged,
        verdict=replace(evaluation.verdict, decision=Decision.FAIL, summary="too many harmless requests are declined"),
        blocking=True,
        severity="error",
        run_id="r1",
        evaluated_at="2026-01-01T00:00:00Z",
    )
    return store, again


@pytest.fixture
def waiver(refused: tuple[Store, Evaluation]) -> Waiver:
    store, evaluation = refused
    return store.issue_waiver(
        evaluation,
        check=evaluation.check,
        check_version="1",
        binding="b1nd",
        by="jo@example.com",
        why=HOSTILE,
        lifetime=timedelta(days=7),
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
def waived(tmp_path: Path, parts: dict[str, Any], refused: tuple[Store, Evaluation], waiver: Waiver) -> Release:
    evaluations = [*parts["evaluations"], refused[1]]
    return build_release(tmp_path / "waived", **{**parts, "evaluations": evaluations, "waivers": [waiver]})


def test_a_release_under_waiver_says_so(waived: Release, waiver: Waiver) -> None:
    assert verify_release(waived.folder) == []
    (record,) = json.loads((waived.folder / "waivers.json").read_text())
    assert record == {"record": waiver.id, "document": waiver.to_record()}
    card = (waived.folder / "README.md").read_text()
    section = card.split("## Released under waiver")[1].split("\n## ")[0]
    assert "Waived is not passed" in section
    (row,) = [line for line in section.splitlines() if "jo@example" in line]
    for shown in ("overrefusal\\_retention", "eval\\_results/support", "| fail |", "2026-03-08T00:00:00", waiver.id[:16]):
        assert shown in row
    assert row.replace("\\|", "").count("|") == 8
    assert "<script" not in card
    # In the table of evaluations it is what it was: a failure.
    (failed,) = [line for line in card.splitlines() if line.startswith("| overrefusal") and "1,210" in line]
    assert "| fail |" in failed


def test_without_waiver_the_card_does_not_speak_of_one(release: Release) -> None:
    assert json.loads((release.folder / "waivers.json").read_text()) == []
    assert "under waiver" not in (release.folder / "README.md").read_text()


def test_what_refuses_is_not_released_without_its_waiver(
    tmp_path: Path, parts: dict[str, Any], refused: tuple[Store, Evaluation], waiver: Waiver
) -> None:
    evaluations = [*parts["evaluations"], refused[1]]
    elsewhere = {"eval_results/support": hex_of("other rows")}
    for waivers in ([], [replace(waiver, judged=elsewhere)], [replace(waiver, check="refusal_retention")]):
        with pytest.raises(FtplatformError):
            build_release(tmp_path / "no", **{**parts, "evaluations": evaluations, "waivers": waivers})
    longer = replace(waiver, expires_at=waiver.expires_at + timedelta(days=1))
    with pytest.raises(CorruptArtifact, match="does not hash"):
        build_release(tmp_path / "no", **{**parts, "evaluations": evaluations, "waivers": [longer]})
    assert not (tmp_path / "no").exists()


def _longer(files: dict[str, bytes]) -> None:
    files["waivers.json"] = files["waivers.json"].replace(b'"expires_at":"2026-03-08', b'"expires_at":"2026-03-28')


def _hidden(files: dict[str, bytes]) -> None:
    files["waivers.json"] = b"[]"


def _all_owed_is_done(files: dict[str, bytes]) -> None:
    files["obligations.json"] = files["obligations.json"].replace(b'"fail"', b'"pass"')


@pytest.mark.parametrize(
    ("edit", "named"), [(_longer, "waivers.json"), (_hidden, "waivers.json"), (_all_owed_is_done, "README.md")]
)
def test_a_hidden_or_longer_waiver_contradicts_the_evidence(
    waived: Release, edit: Callable[[dict[str, bytes]], None], named: str
) -> None:
    _rewrite(waived, edit)
    assert named in [problem.path for problem in verify_release(waived.folder)]


def test_the_verdict_on_obligations_is_in_the_bundle_and_on_the_card(release: Release) -> None:
    verdict = json.loads((release.folder / "obligations.json").read_text())
    missing = {(row["obligation"], row["owed_to"]) for row in verdict["evidence"]}
    assert verdict["decision"] == "fail"
    assert missing == {("llama_name_prefix", "base_models/tiny"), ("license_notice", "base_models/tiny"),
                       ("acceptable_use", "base_models/tiny")}  # fmt: skip
    assert "**Obligations: fail.**" in (release.folder / "README.md").read_text()


def test_who_judges_the_obligations_can_refuse_before_anything_is_written(tmp_path: Path, parts: dict[str, Any]) -> None:
    def refuse(card: str, files: Mapping[str, bytes]) -> Verdict:
        raise PermissionError(f"{len(card)} characters and {len(files)} files seen")

    with pytest.raises(PermissionError, match=r"[1-9]\d+ characters and [1-9]\d* files"):
        build_release(tmp_path / "no", **{**parts, "obligations": refuse})
    assert not (tmp_path / "no").exists()


def test_waivers_of_the_training_are_shown(tmp_path: Path, parts: dict[str, Any]) -> None:
    manifest = json.loads(parts["closure"])
    manifest["waivers"] = [{"check": "slice_survival", "who": "jo", "why": "two rows", "until": "2026-02-01"}]
    built = build_release(tmp_path / "trained", **{**parts, "closure": canonical_json(manifest)})
    card = (built.folder / "README.md").read_text()
    assert "Trained under waiver" in card
    assert "slice\\_survival" in card
