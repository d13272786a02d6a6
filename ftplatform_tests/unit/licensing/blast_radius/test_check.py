"""`license_blast_radius` and the drawing that goes with it."""

from __future__ import annotations

import pytest

from ftplatform.licensing.blast_radius.check import AT_RISK, license_blast_radius
from ftplatform.licensing.blast_radius.drawing import MAX_PATHS, path_svg
from ftplatform.licensing.blast_radius.index import GraphIndex
from ftplatform.licensing.blast_radius.lineage import Influence, LineageRole
from ftplatform.licensing.blast_radius.radius import Step
from ftplatform.licensing.states import REVOKED, State
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.unit.licensing.blast_radius.test_radius import EDGES, SOURCES, VERSIONS
from ftplatform_tests.unit.plots.test_charts import HOSTILE, parse, texts


@pytest.fixture
def index(sqlite_index: GraphIndex) -> GraphIndex:
    sqlite_index.load(VERSIONS, EDGES, SOURCES)
    return sqlite_index


def judge(index: GraphIndex, adapter: str, states: dict[str, State], skip: tuple[str, ...] = ()) -> Verdict:
    radii = [index.blast_radius(s, must_exist=False) for s, state in states.items() if state in AT_RISK and s not in skip]
    return license_blast_radius(radii, states, adapter, downstream=index.downstream(adapter))


def test_which_states_are_followed():
    assert REVOKED <= AT_RISK
    assert {State.RELICENSED, State.DISPUTED, State.UNKNOWN, State.WITHDRAWN_ROWS} <= AT_RISK
    assert not AT_RISK & {State.ACTIVE, State.REINSTATED, State.GATED, State.UNREACHABLE, State.PROSPECTIVE}


def test_a_revoked_source_warns_with_the_facts(index):
    verdict = judge(index, "one", {"raw/forum": State.TAKEDOWN, "raw/other": State.ACTIVE, "teacher:gpt": State.DISPUTED})
    assert verdict.decision is Decision.WARN
    assert (verdict.estimate, verdict.n) == (2.0, 3)
    forum, teacher = verdict.evidence
    assert forum == {
        "source": "raw/forum",
        "state": "takedown",
        "influence": "content",
        "tainted_rows": 100,
        "shared_rows": 7,
        "token_share": 0.7,
        "step_share": 0.9,
        "derived_rows": 40,
        "evaluations": 0,
        "endpoints": "endpoints/chat",
        "gpu_hours_to_retrain": 1.0,
        "adapters_without_cost": 0,
        "path": "raw/forum -> corpora/mix (rows) -> adapters/one (rows)",
    }
    assert teacher["influence"] == "behavior"
    assert "raw/forum" in verdict.summary
    assert verdict.plot is not None
    assert "one" in texts(parse(verdict.plot))
    assert Verdict.from_record(verdict.to_record()).to_record() == verdict.to_record()


def test_a_taken_down_eval_set_warns_although_the_weights_are_clean(index):
    verdict = judge(index, "clean", {"raw/forum": State.TAKEDOWN})
    assert verdict.decision is Decision.WARN
    assert (verdict.evidence[0]["influence"], verdict.evidence[0]["evaluations"]) == ("claim", 1)
    assert verdict.evidence[0]["tainted_rows"] is None


def test_a_pass_says_at_how_many_sources_it_looked(index):
    states = {"raw/forum": State.ACTIVE, "raw/other": State.REINSTATED, "raw/unused": State.TAKEDOWN}
    verdict = judge(index, "one", states)
    assert (verdict.decision, verdict.n, verdict.estimate) == (Decision.PASS, 3, 0.0)
    assert judge(index, "clean", {"teacher:gpt": State.TAKEDOWN}).decision is Decision.PASS


def test_nothing_looked_at_is_no_pass(index):
    assert judge(index, "one", {}).decision is Decision.INSUFFICIENT_EVIDENCE
    lacking = judge(index, "one", {"raw/forum": State.TAKEDOWN}, skip=("raw/forum",))
    assert lacking.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "raw/forum" in lacking.summary
    assert lacking.estimate is None


def step(asset: str, role: LineageRole | None = LineageRole.ROWS) -> Step:
    return Step("s", asset, role, Influence.CONTENT)


def test_a_path_shows_its_ends_and_counts_its_middle():
    short = parse(path_svg([[step("raw/a", None), step("corpora/b"), step("adapters/c", LineageRole.CONTINUED_ADAPTER)]]))
    assert {"a", "b", "c", "rows", "content", "claim"} <= set(texts(short))
    long = texts(parse(path_svg([[step("raw/a", None), *(step(f"adapters/n{i}") for i in range(50)), step("endpoints/z")]])))
    assert {"a", "n0", "n49", "z", "48 more"} <= set(long)
    five = texts(parse(path_svg([[step("raw/a", None), *(step(f"adapters/n{i}") for i in range(4))]])))
    assert {"n0", "n1", "n2", "n3"} <= set(five)


def test_many_paths_are_counted_and_no_path_is_said():
    path = [step("raw/a", None), step("adapters/b")]
    svg = path_svg([path] * (MAX_PATHS + 7))
    assert "and 7 more paths" in texts(parse(svg))
    assert len(svg.encode()) < 30_000
    assert "No data" in texts(parse(path_svg([])))
    assert "No data" in texts(parse(path_svg([[]])))
    assert path_svg([path]) == path_svg([list(path)])


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_names_stay_text(label):
    parse(path_svg([[step(f"{label}/{label}", None), step(label), step(f"x/{label}")]], title=label))
