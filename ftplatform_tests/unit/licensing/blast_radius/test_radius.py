"""What the answer says: kinds of influence, order, shares, costs; and the two cases that following edges gets wrong."""

from __future__ import annotations

import json

import pytest

from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.lineage import Edge, Influence, LineageRole, SourceRows, Version, carried
from ftplatform.licensing.rights import ALL_DENIED, EdgeRole, Use, transfer


def v(name: str, asset: str, **more: object) -> Version:
    return Version(snapshot=name, asset=asset, created_at="2026-11-22T00:00:00Z", **more)  # type: ignore[arg-type]


VERSIONS = [
    v("raw", "raw/forum", provenance_complete=True, n_rows=100, tokens=1_000),
    v("syn", "synthetic/made", provenance_complete=True, n_rows=40, tokens=400),
    v("mix", "corpora/mix", provenance_complete=True, n_rows=200, tokens=2_000),
    v("one", "adapters/one", provenance_complete=True, n_rows=200, tokens=2_000, steps=50, gpu_seconds=3_600.0, owner="ada"),
    v("two", "adapters/two", gpu_seconds=1_800.0),
    v("three", "adapters/three"),
    v("quiz", "eval_sets/quiz"),
    v("clean", "adapters/clean", gpu_seconds=10.0),
    v("exam", "eval_results/clean"),
    v("rel", "releases/two", live=True),
    v("old", "releases/old"),
    v("chat", "endpoints/chat", live=True),
    v("clean-chat", "endpoints/clean", live=True),
]
EDGES = [
    Edge("raw", "syn", "prompt_seed"),
    Edge("raw", "mix", "rows"),
    Edge("syn", "mix", "rows"),
    Edge("mix", "one", "rows"),
    Edge("one", "two", "continued_adapter"),
    Edge("two", "three", "continued_adapter"),
    Edge("raw", "quiz", "rows"),
    Edge("quiz", "exam", "evaluates"),
    Edge("clean", "exam", "measured"),
    Edge("two", "rel", "serves"),
    Edge("three", "old", "serves"),
    Edge("rel", "chat", "serves"),
    Edge("clean", "clean-chat", "serves"),
]
SOURCES = [
    SourceRows(source="raw/forum", version="raw", n_rows=100, tokens=1_000),
    SourceRows(source="raw/forum", version="syn", role="prompt_seed", n_rows=0, derived_rows=40, tokens=400),
    SourceRows(source="raw/forum", version="mix", n_rows=100, shared_rows=7, derived_rows=40, tokens=1_400),
    SourceRows(source="raw/forum", version="one", n_rows=100, shared_rows=7, derived_rows=40, tokens=1_400, step_share=0.9),
    SourceRows(source="teacher:gpt", version="syn", role="teacher", n_rows=0, derived_rows=40),
    SourceRows(source="raw/other", version="mix", n_rows=60),
]


@pytest.fixture
def index(sqlite_index: GraphIndex) -> GraphIndex:
    sqlite_index.load(VERSIONS, EDGES, SOURCES)
    return sqlite_index


def test_live_endpoints_come_first_then_releases_then_adapters(index):
    found = [a.snapshot for a in index.blast_radius("raw/forum").listed()]
    assert found[:2] == ["chat", "rel"]
    assert set(found[2:5]) == {"one", "two", "three"}
    assert set(found[5:]) == {"raw", "syn", "mix", "quiz", "exam", "old"}
    assert [a.snapshot for a in index.in_live_closure("raw/forum")] == ["chat", "rel"]


def test_facts_of_an_adapter(index):
    radius = index.blast_radius("raw/forum")
    one = radius.find("one")
    assert one is not None
    assert (one.tainted_rows, one.shared_rows, one.derived_rows, one.token_share, one.step_share) == (100, 7, 40, 0.7, 0.9)
    assert [(s.asset, s.role and str(s.role)) for s in one.path] == [
        ("raw/forum", None), ("corpora/mix", "rows"), ("adapters/one", "rows"),
    ]  # fmt: skip
    two = radius.find("two")
    assert two is not None
    assert two.influences == (Influence.BEHAVIOR,)
    assert (two.tainted_rows, two.token_share) == (None, None)  # nobody counted its rows; that is not zero


def test_an_eval_set_touches_claims_and_not_weights(index):
    radius = index.blast_radius("raw/forum")
    exam = radius.find("exam")
    assert exam is not None
    assert exam.influences == (Influence.CLAIM,)
    assert radius.find("clean") is None
    assert radius.find("clean-chat") is None
    reach = radius.reach("clean", index.downstream("clean"))
    assert reach.affected is None
    assert [a.snapshot for a in reach.evaluations] == ["exam"]
    assert reach.endpoints == ()
    assert (reach.retraining.adapters, reach.retraining.gpu_seconds) == (0, None)


def test_the_cost_follows_the_chain_and_unmeasured_is_not_free(index):
    radius = index.blast_radius("raw/forum")
    two = radius.reach("two", index.downstream("two"))
    assert (two.retraining.adapters, two.retraining.gpu_hours) == (2, 1.5)  # itself and the one it continues
    assert [a.snapshot for a in two.endpoints] == ["chat"]
    three = radius.reach("three", index.downstream("three")).retraining
    assert (three.adapters, three.unmeasured, three.gpu_seconds) == (3, 1, 5_400.0)
    everything = radius.retraining()
    assert (everything.adapters, everything.gpu_seconds) == (2, 5_400.0)  # nothing live needs the third
    index.load([v("one", "adapters/one"), v("two", "adapters/two")])
    assert index.blast_radius("raw/forum").retraining().gpu_seconds is None


def test_a_teacher_leaves_behavior(index):
    mix = index.blast_radius("teacher:gpt").find("mix")
    assert mix is not None
    assert mix.influences == (Influence.BEHAVIOR,)


def test_a_version_as_a_whole(index):
    radius = index.blast_radius_of_version("one")
    assert {a.snapshot for a in radius.listed()} == {"one", "two", "three", "rel", "old", "chat"}
    assert index.downstream("one") == {"one", "two", "three", "rel", "old", "chat"}
    assert len(index.blast_radius_of_rows("notice:1", [])) == 0
    rows = index.blast_radius_of_rows("notice:1", [SourceRows(source="notice:1", version="raw", n_rows=3)])
    mix = rows.find("mix")
    assert mix is not None
    assert (mix.influences, mix.tainted_rows) == ((Influence.SELECTION,), 0)


def test_sources_of_an_adapter(index):
    found = {row["source"]: (row["n_rows"], row["derived_rows"]) for row in index.sources_of("one").to_dicts()}
    assert found == {"raw/forum": (100, 40), "raw/other": (None, None), "teacher:gpt": (None, None)}
    assert index.sources_of("clean").is_empty()


def test_adv_rows_filtered_out_on_the_way_do_not_taint(sqlite_index):
    """The license filter of a corpus drops a revoked source, which still is an input of the corpus. A walk over edges condemns the
    adapter that was trained to be clean of it; its recorded rows say otherwise."""
    versions = [
        v("raw", "raw/revoked", provenance_complete=True),
        v("mix", "corpora/mix", provenance_complete=True),
        v("new", "adapters/new", provenance_complete=True),
        v("unknown", "adapters/unknown"),
    ]
    edges = [Edge("raw", "mix", "rows"), Edge("mix", "new", "rows"), Edge("raw", "unknown", "rows")]
    sources = [SourceRows(source="raw/revoked", version="raw", n_rows=9), SourceRows(source="raw/kept", version="mix", n_rows=5)]
    sqlite_index.load(versions, edges, sources)
    naive, open_ends = set(), ["raw"]
    while open_ends:
        parent = open_ends.pop()
        naive.add(parent)
        open_ends += [edge.child for edge in edges if edge.parent == parent]
    assert "new" in naive  # what the naive walk calls tainted

    radius = sqlite_index.blast_radius("raw/revoked")
    new, unknown = radius.find("new"), radius.find("unknown")
    assert new is not None
    assert unknown is not None
    assert (new.influences, new.tainted_rows, new.token_share) == ((Influence.SELECTION,), 0, 0.0)
    assert radius.retraining().adapters == 0
    assert unknown.influences == (Influence.CONTENT,)  # without a record of its rows, nobody may call it clean
    assert unknown.tainted_rows is None


def test_adv_failed_eval_items_that_come_back_as_rows_bring_the_content(sqlite_index):
    """Claims do not touch weights, unless somebody trains on the items. Stopping at 'evaluates' misses it."""
    versions = [v("q", "eval_sets/q"), v("r", "eval_results/a"), v("fix", "feedback/triage"), v("b", "adapters/b", live=True)]
    edges = [Edge("q", "r", "evaluates"), Edge("r", "fix", "rows"), Edge("fix", "b", "rows")]
    sqlite_index.load(versions, edges, [SourceRows(source="eval_sets/q", version="q", n_rows=3)])
    naive = {"q"} | {e.child for e in edges if e.parent == "q" and e.role != "evaluates"}
    assert "b" not in naive
    (live,) = sqlite_index.in_live_closure("eval_sets/q")
    assert (live.snapshot, live.influences) == ("b", (Influence.CONTENT,))


@pytest.mark.parametrize("role", list(EdgeRole))
def test_influence_agrees_with_the_transfer_of_rights(role):
    """A role that carries no restriction on training carries no influence on weights, and the other way round."""
    restricts = not transfer(role, ALL_DENIED)[Use.TRAIN].usable
    assert restricts == (carried(Influence.CONTENT, LineageRole(role)) <= Influence.BEHAVIOR)


def test_influence_never_turns_into_content_but_through_rows():
    for influence in Influence:
        for role in LineageRole:
            stronger = carried(influence, role) < influence
            if stronger and role is not LineageRole.SELECTION:
                assert influence is Influence.CLAIM
                assert role in {LineageRole.ROWS, LineageRole.PROMPT_SEED}


def test_the_record_is_json_and_counts_what_it_leaves_out(index):
    radius = index.blast_radius("raw/forum")
    record = json.loads(json.dumps(radius.to_record(limit=2)))
    assert (record["versions"], record["not_listed"], len(record["affected"])) == (11, 9, 2)
    assert record["live_endpoints"] == 1
    assert record["evaluations"] == 2
    families = {row["family"]: row for row in record["families"]}
    assert families["adapters"]["versions"] == 3
    assert (families["adapters"]["content"], families["adapters"]["behavior"]) == (1, 2)
    assert sum(row["versions"] for row in record["families"]) == 11
    (first,) = radius.table_rows(limit=1)
    assert first["path"] == (
        "raw/forum -> corpora/mix (rows) -> adapters/one (rows) -> adapters/two (continued_adapter) -> releases/two (serves)"
        " -> endpoints/chat (serves)"
    )
