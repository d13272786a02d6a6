"""Exposure on hand-made evaluations: what a check concludes from several of them, and that no vault speaks through any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.defs.access import WITHHELD, record_decisions, record_entered, retired_items, withholding
from ftplatform.defs.asset_checks.eval_checks import eval_checks
from ftplatform.defs.checks import Check, Judging, evaluate
from ftplatform.defs.metadata import verdict_metadata, verdict_row
from ftplatform.defs.outcomes import outcomes
from ftplatform.defs.plan import Plan
from ftplatform.evaluation.suite import ANSWERS_SCHEMA
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store, access_log
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import edit, plan_of, small_project
from ftplatform_tests.tables import row, table

WORDS = [a + b for a in ("ka", "lo", "mi", "nu", "pe", "ri", "so", "tu", "vy", "ze") for b in ("rba", "lte", "nki", "mdo", "gfu")]


def said(seed: int) -> str:
    """Ten words, hardly any of them shared with another seed's neighbours."""
    return " ".join(WORDS[(seed * 7 + step * (seed % 11 + 3)) % len(WORDS)] + str(seed % 97) for step in range(10))


ITEMS = [row(said(at), f"answer {at}", group=f"family-{at}") for at in range(60)]
TRAIN = [row(said(1000 + at), "as you wish") for at in range(80)]


def exams(project: dict[str, Any]) -> None:
    """A vault with twin and fresh set; `first` and `third` share a dataset, `second`, `fourth` and `fifth` have the other."""
    exam = project["eval_sets"]["questions"]
    project["eval_sets"] = {
        "vault": {**exam, "vault": True},
        "twin": {**exam, "paraphrase_of": "vault"},
        "fresh": {**exam, "fresh_for": "vault"},
        "working": exam,
    }
    adapters = project["adapters"]
    project["adapters"] |= {"third": adapters["first"], "fourth": adapters["second"], "fifth": adapters["second"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return small_project(tmp_path, exams)


def publish(store: Store, asset: str, tables: Mapping[str, pa.Table], inputs: Sequence[tuple[str, Snapshot]] = ()) -> Snapshot:
    refs = [InputRef(role=role, asset=s.asset, snapshot=s.digest) for role, s in inputs]
    with SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=refs) as draft:
        for name, rows in tables.items():
            draft.add_table(f"{name}.parquet", rows)
        snapshot = store.write(draft)
    store.publish(snapshot)
    return snapshot


def publish_split(
    store: Store, train: Sequence[dict[str, Any]], removed: Sequence[dict[str, Any]] = (), name: str = "one"
) -> Snapshot:
    tables = {"train": table(train), "eval": table([row("reserved", "yes")]), "removed": table(removed)}
    return publish(store, f"splits/{name}", tables)


def answer(eval_set: str, item: dict[str, Any], tuned: float, base: float = 1.0, **more: Any) -> dict[str, Any]:
    texts = {"prompt": item["messages"][0]["content"], "base_answer": "b", "tuned_answer": f"wrong about {item['row_id']}"}
    place = {"eval_set": eval_set, "kind": "task", "item_id": item["row_id"], "condition": "plain"}
    more = {"slices": [], "group": item["group"], **more}
    return {**dict.fromkeys(ANSWERS_SCHEMA.names), **texts, **place, "base_score": base, "tuned_score": tuned, **more}


def evaluated(
    store: Store, adapter: str, split: Snapshot, sets: Mapping[str, Sequence[dict[str, Any]]], answers: Sequence[dict[str, Any]]
) -> Snapshot:
    """An adapter trained on `split` and asked `sets`."""
    base = publish(store, "base_models/base", {"x": pa.table({"a": [1]})})
    model = publish(store, f"adapters/{adapter}", {"x": pa.table({"a": [adapter]})}, [("rows", split), ("base_model", base)])
    exams = [("evaluates", publish(store, f"eval_sets/{name}", {"rows": table(items)})) for name, items in sets.items()]
    inputs = [("adapter", model), ("base_model", base), ("reserve", split), *exams]
    return publish(
        store, f"eval_results/{adapter}", {"answers": pa.Table.from_pylist(list(answers), schema=ANSWERS_SCHEMA)}, inputs
    )


def check_of(plan: Plan, asset: str, name: str) -> Check:
    (check,) = (check for check in plan.checks_of([asset]) if check.name == name)
    return check


def judged(plan: Plan, asset: str, name: str) -> Verdict:
    verdict = evaluate(check_of(plan, asset, name), plan.open_store()).verdict
    assert verdict is not None
    return verdict


def failing(eval_set: str, count: int) -> list[dict[str, Any]]:
    return [answer(eval_set, item, float(at >= count)) for at, item in enumerate(ITEMS)]


def copies(count: int) -> list[dict[str, Any]]:
    """The first items in another order, two words short."""
    return [row(" ".join(text.split()[4:] + text.split()[:2]), "copied") for text in map(said, range(count))]


# ---- triage ----------------------------------------------------------------------------------------------------------------


def test_before_any_evaluation_nothing_can_have_been_written_from_a_failure(file: Path) -> None:
    plan = plan_of(file)
    publish_split(plan.open_store(), TRAIN)
    verdict = judged(plan, "splits/one", "triage_leak")
    assert verdict.passed
    assert verdict.n == len(TRAIN)
    publish_split(plan.open_store(), [])
    assert judged(plan, "splits/one", "triage_leak").decision is Decision.INSUFFICIENT_EVIDENCE


def test_the_batch_is_what_came_since_the_evaluated_adapter_was_trained(file: Path) -> None:
    plan = plan_of(file)
    store = plan.open_store()
    removed = row("there before, and left out as a near copy", "yes")
    first = publish_split(store, TRAIN, [removed])
    evaluated(store, "first", first, {"vault": ITEMS}, failing("vault", 12))
    assert "no new rows" in judged(plan, "splits/one", "triage_leak").summary
    publish_split(store, [*TRAIN, removed, row("reserved", "yes"), *copies(12)])
    leak = judged(plan, "splits/one", "triage_leak")
    assert leak.decision is Decision.FAIL, leak.summary
    assert leak.details["batch_rows"] == 12, "rows the version before held anywhere are not new"


def test_the_worst_of_several_evaluations_decides_and_says_which(file: Path) -> None:
    plan = plan_of(file)
    store = plan.open_store()
    first = publish_split(store, TRAIN)
    evaluated(store, "first", first, {"vault": ITEMS}, failing("vault", 0))
    evaluated(store, "third", first, {"vault": ITEMS}, failing("vault", 12))
    publish_split(store, [*TRAIN, *copies(12)])
    leak = judged(plan, "splits/one", "triage_leak")
    assert leak.decision is Decision.FAIL
    assert leak.summary.startswith("vault, answered by third")
    assert {line["adapter"] for line in leak.evidence} == {"third"}
    decisions = {c["adapter"]: c["decision"] for c in leak.details["comparisons"]}
    assert decisions == {"first": "pass", "third": "fail"}, "an adapter that failed nothing gives nothing to copy"


def test_missing_evidence_refuses_where_a_vault_was_asked_and_only_there(file: Path) -> None:
    plan = plan_of(file)
    store = plan.open_store()
    first = publish_split(store, TRAIN)
    sets = {"vault": ITEMS, "working": ITEMS}
    evaluated(store, "first", first, sets, [*failing("vault", 12), *failing("working", 60)])
    publish_split(store, [*TRAIN, row("something new and harmless", "yes")])
    check = check_of(plan, "splits/one", "triage_leak")
    verdict = judged(plan, "splits/one", "triage_leak")
    assert verdict.passed, "the working set, of which everything failed, cannot say; the vault can"
    assert "insufficient_evidence" in {c["decision"] for c in verdict.details["comparisons"]}
    evaluated(store, "first", first, sets, [*failing("vault", 3), *failing("working", 60)])
    verdict = judged(plan, "splits/one", "triage_leak")
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert check.severity_of(verdict) == "error"

    edit(file, lambda p: p["adapters"]["first"].update(evals=["working"]))
    plan = edit(file, lambda p: p["adapters"]["third"].update(evals=["working"]))
    check = check_of(plan, "splits/one", "triage_leak")
    evaluated(store, "first", first, {"working": ITEMS}, failing("working", 60))
    verdict = judged(plan, "splits/one", "triage_leak")
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert check.severity_of(verdict) == "warn", "a working set must not stop the next training for being small"


def test_a_synthetic_set_is_compared_with_the_version_that_went_into_the_adapter(file: Path) -> None:
    def made(project: dict[str, Any]) -> None:
        source = project["sources"]["tickets"]
        project["synthetic"] = {
            name: {"path": source["path"], "teacher": {"id": "template", "license": source["license"]}}
            for name in ("made", "unused")
        }
        project["datasets"]["one"]["synthetic"] = ["made"]

    plan = edit(file, made)
    store = plan.open_store()
    first = publish(store, "synthetic/made", {"rows": table(TRAIN[:30])})
    corpus = publish(store, "corpora/one", {"rows": table(TRAIN)}, [("rows", first)])
    tables = {"train": table(TRAIN), "eval": table([]), "removed": table([])}
    evaluated(store, "first", publish(store, "splits/one", tables, [("rows", corpus)]), {"vault": ITEMS}, failing("vault", 12))
    assert "no new rows" in judged(plan, "synthetic/made", "triage_leak").summary
    publish(store, "synthetic/made", {"rows": table([*TRAIN[:30], *copies(12)])})
    leak = judged(plan, "synthetic/made", "triage_leak")
    assert leak.decision is Decision.FAIL
    assert leak.details["batch_rows"] == 12
    bound = {c.asset for c in plan.checks if c.name == "triage_leak"}
    assert bound == {"synthetic/made", "splits/one", "splits/two"}, "nothing is trained on the unused set"


def test_what_counts_as_failed() -> None:
    def asked(kind: str, label: str | None, score: float | None, **more: Any) -> dict[str, Any]:
        item = {"row_id": f"{kind} {label} {score}", "messages": [{"content": "?"}], "group": None}
        return answer("set", item, 0, kind=kind, tuned_label=label) | {"tuned_score": score} | more

    rows = [
        asked("task", None, 1.0),
        asked("task", None, 0.0),
        asked("task", None, 0.7),
        asked("refusal_probes", "refuse", None),
        asked("refusal_probes", "comply", None),
        asked("refusal_probes", "incoherent", None),
        asked("overrefusal_probes", "refuse", None),
        asked("overrefusal_probes", "comply", None),
        asked("helpfulness_probes", "refuse", None),
        asked("helpfulness_probes", "comply", 0.0),
        asked("behavior_probes", "comply", None),
    ]
    # One item, refused plainly and answered under the system prompt.
    rows += [{**rows[3], "item_id": "both"}, {**rows[4], "item_id": "both", "condition": "system_prompt"}]
    found = {item: failed for _, item, failed in outcomes(pa.Table.from_pylist(rows, schema=ANSWERS_SCHEMA)).iter_rows()}
    assert [name for name, failed in found.items() if failed] == [
        "task None 0.0",
        "refusal_probes comply None",
        "refusal_probes incoherent None",
        "overrefusal_probes refuse None",
        "helpfulness_probes refuse None",
        "helpfulness_probes comply 0.0",
        "both",
    ]
    assert "behavior_probes comply None" not in found


# ---- performance gap -------------------------------------------------------------------------------------------------------


def in_other_words(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row(f"said otherwise {item['messages'][0]['content']}", "answer", group=item["group"]) for item in items]


def asked_both(
    eval_scores: Mapping[str, float], items: Mapping[str, Sequence[dict[str, Any]]], base: float
) -> list[dict[str, Any]]:
    """Of each set the given share of items is answered right."""
    return [
        answer(name, item, float(at < share * len(items[name])), base)
        for name, share in eval_scores.items()
        for at, item in enumerate(items[name])
    ]


def test_a_gap_is_judged_beyond_what_other_adapters_show_and_not_those_on_the_same_rows(file: Path) -> None:
    plan = plan_of(file)
    store = plan.open_store()
    vault = [row(said(2000 + at), "a", group=f"family-{at}") for at in range(400)]
    sets = {"vault": vault, "twin": in_other_words(vault)}
    one, two = publish_split(store, TRAIN), publish_split(store, TRAIN[:40], name="two")
    leaked = asked_both({"vault": 0.9, "twin": 0.6}, sets, base=0.5)
    evaluated(store, "first", one, sets, leaked)
    alone = judged(plan, "eval_results/first", "performance_gap")
    assert alone.decision is Decision.FAIL
    assert alone.summary.startswith("vault, answered by first")
    assert alone.baseline is not None
    assert alone.baseline.startswith("1 reference checkpoint(s), too few")

    evaluated(store, "third", one, sets, leaked)
    for other in ("second", "fourth", "fifth"):
        evaluated(store, other, two, sets, asked_both({"vault": 0.6, "twin": 0.6}, sets, base=0.5))
    among = judged(plan, "eval_results/first", "performance_gap")
    assert among.decision is Decision.FAIL
    assert among.config["references"] == ["adapters/fifth", "adapters/fourth", "adapters/second", "base_models/base"]

    shared = edit(file, lambda p: p["datasets"]["two"]["sources"].append("tickets"))
    check = evaluate(check_of(shared, "eval_results/first", "performance_gap"), store).verdict
    assert check is not None
    assert check.config["references"] == [], "adapters on some of the same rows may have seen the vault too"
    plan = edit(file, lambda p: p["datasets"]["two"]["sources"].remove("tickets"))

    # Where everybody finds the twin harder, it is the twin.
    for other in ("second", "fourth", "fifth"):
        evaluated(store, other, two, sets, asked_both({"vault": 0.9, "twin": 0.6}, sets, base=0.5))
    assert judged(plan, "eval_results/first", "performance_gap").decision is not Decision.FAIL


def test_only_where_a_counterpart_is_asked_too(file: Path) -> None:
    assert {c.asset for c in plan_of(file).checks if c.name == "performance_gap"} == {
        f"eval_results/{name}" for name in ("first", "second", "third", "fourth", "fifth")
    }
    plan = edit(file, lambda p: p["adapters"]["first"].update(evals=["vault", "working"]))
    assert "eval_results/first" not in {c.asset for c in plan.checks if c.name == "performance_gap"}


# ---- the ledger ------------------------------------------------------------------------------------------------------------


def test_decisions_count_once_for_what_was_seen(file: Path) -> None:
    store = plan_of(file).open_store()
    split = publish_split(store, TRAIN)
    vaults = frozenset({"vault"})
    results = evaluated(store, "first", split, {"vault": ITEMS, "working": ITEMS}, failing("vault", 1))
    assert len(record_decisions(store, results, vaults)) == 1
    assert record_decisions(store, results, vaults) == []
    assert len(record_decisions(store, results, vaults, "You are terse.")) == 1, "another system prompt is another candidate"
    fewer = evaluated(store, "first", split, {"vault": ITEMS[1:], "working": ITEMS}, failing("vault", 1))
    assert len(record_decisions(store, fewer, vaults)) == 1, "another version of the vault has other results"
    assert {r.kind for r in access_log.of_set(store.backend, "vault")} == {"decision"}
    assert access_log.of_set(store.backend, "working") == []


def test_items_that_left_are_found_through_the_ledger(file: Path) -> None:
    store = plan_of(file).open_store()
    versions = [
        publish(store, "eval_sets/vault", {"rows": table(items)})
        for items in (ITEMS[:10], ITEMS[5:10], [*ITEMS[5:10], *ITEMS[20:25]], ITEMS[22:25])
    ]
    for version in versions:
        record_entered(store, version)
        assert record_entered(store, version) is None
    records = access_log.of_set(store.backend, "vault")
    assert [len(record.items) for record in records] == [10, 5]
    retired, gone = retired_items(store, versions[-1], records)
    assert sorted(retired["row_id"].to_pylist()) == sorted(item["row_id"] for item in [*ITEMS[:10], *ITEMS[20:22]])
    assert gone == 0
    lost = access_log.record(store.backend, "vault", "refresh", by="b", purpose="p", items=[ITEMS[0]["row_id"]], snapshot="0" * 64)
    assert retired_items(store, versions[-1], [*records, lost])[1] == 1


# ---- what is shown ---------------------------------------------------------------------------------------------------------


def test_checks_on_an_evaluation_show_numbers_of_vault_items_and_texts_of_others(file: Path) -> None:
    plan = plan_of(file)
    store = plan.open_store()
    others = [row(said(500 + at), "a") for at in range(60)]
    lost = [*failing("vault", 5), *(answer("working", item, float(at >= 5)) for at, item in enumerate(others))]
    evaluated(store, "first", publish_split(store, TRAIN), {"vault": ITEMS, "working": others}, lost)
    check = check_of(plan, "eval_results/first", "task_regression")
    evaluation = evaluate(check, store)
    told = json.dumps(verdict_row(evaluation)) + repr(verdict_metadata(evaluation))
    assert not [text for text in map(said, range(60)) if text in told]
    assert [text for text in map(said, range(500, 505)) if text in told], "the working set may be read"
    assert evaluation.verdict is not None
    ids = {item["row_id"] for item in ITEMS}
    about = [line for line in evaluation.verdict.evidence if line["item_id"] in ids]
    assert len(about) == 5
    assert {(line["prompt"], line["tuned_answer"], line["tuned_score"]) for line in about} == {(WITHHELD, WITHHELD, 0.0)}
    # The check as its module binds it would show them.
    (naive,) = (c for c in eval_checks(plan) if (c.name, c.asset) == ("task_regression", "eval_results/first"))
    shown = evaluate(naive, store).verdict
    assert shown is not None
    assert any(line["prompt"] == said(0) for line in shown.evidence)


def test_a_column_nobody_has_listed_is_withheld(file: Path) -> None:
    store = plan_of(file).open_store()
    snapshot = publish(store, "eval_sets/vault", {"rows": table(ITEMS)})
    line = {"row_id": ITEMS[0]["row_id"], "rule": "not_blank", "value": "what the item says", "position": 3, "new": "its answer"}
    license_line = {"source": "eval_sets/vault", "license": "MIT", "rows": 60}
    verdict = Verdict(
        decision=Decision.FAIL,
        summary="s",
        statistic="s",
        n=1,
        n_required=1,
        remedy="r",
        check_version="1",
        evidence=[line, license_line],
    )
    judging = Judging(store=store, asset="eval_sets/vault", snapshot=snapshot, others={}, alpha=0.05, threshold=None)
    hidden, untouched = withholding(lambda _: verdict, frozenset({"vault"}))(judging).evidence
    assert hidden == {**line, "value": WITHHELD, "new": WITHHELD}
    assert untouched == license_line
    assert withholding(lambda _: verdict, frozenset())(judging) is verdict
