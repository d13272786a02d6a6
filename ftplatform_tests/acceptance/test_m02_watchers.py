"""M2, the watchers: the truth table of the hub on a real socket, withdrawn rows, unknown and disputed declarations, the dead-man."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.licensing.evidence import read_evidence
from ftplatform.licensing.expressions import equivalent, parse_license
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.registry import Ledger
from ftplatform.licensing.rights import Level, Use
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.licensing.terms import SourceTerms, assess
from ftplatform.licensing.watchers.dead_man import SCRAPED_TTL, license_fresh
from ftplatform.licensing.watchers.git import GitWatcher
from ftplatform.licensing.watchers.hub import HubWatcher
from ftplatform.licensing.watchers.look import Look
from ftplatform.licensing.watchers.rows import UpstreamRowsWatcher
from ftplatform.store.local import LocalBackend
from ftplatform.verdict import Decision
from ftplatform_tests.real_data import read_json
from ftplatform_tests.unit.licensing.factories import row_id
from ftplatform_tests.unit.licensing.watchers.stub_server import Answer, StubServer, card, stub_server

POLICY = default_policy()
NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
PATH = "/api/datasets/org/data"


@pytest.fixture(scope="module")
def hub() -> Iterator[StubServer]:
    with stub_server() as running:
        yield running


def hub_watcher(hub: StubServer, repository: str = "org/data") -> HubWatcher:
    fetcher = hub.fetcher(deadline=1.0, attempts=2)
    return HubWatcher("raw/x", repository, fetcher, endpoint=hub.url, token_variable=None)


# ---- LIC-03: the truth table


@dataclass(frozen=True)
class Row:
    """What the hub answers, and what must follow when the repository was fine before."""

    name: str
    answer: Answer
    state: State | None
    looked: bool


TABLE = [
    Row("200 unchanged", card(), None, True),
    Row("200 relicensed", card(license="cc-by-nc-4.0"), State.RELICENSED, True),
    Row("200 unknown license", card(license="other"), State.RELICENSED, True),
    Row("200 gated", card(gated="auto"), State.GATED, True),
    Row("200 disabled", card(disabled=True), State.DISABLED, True),
    Row("200 nonsense", Answer(200, b"<html>maintenance</html>"), None, False),
    Row("401", Answer(401, b"", {"x-error-code": "RepoNotFound"}), None, False),
    Row("403 gated", Answer(403, b"", {"x-error-code": "GatedRepo"}), State.GATED, True),
    Row("403 disabled", Answer(403, b"", {"x-error-message": "Access to this resource is disabled."}), State.DISABLED, True),
    Row("403 unexplained", Answer(403), None, False),
    Row("404 once", Answer(404, b"", {"x-error-code": "RepoNotFound"}), None, False),
    Row("410 once", Answer(410), None, False),
    Row("429", Answer(429, b"", {"retry-after": "9"}), None, False),
    Row("451", Answer(451, b"Unavailable due to a DMCA notice"), State.TAKEDOWN, True),
    *(Row(str(status), Answer(status), None, False) for status in (400, 418, 500, 502, 503, 504)),
    Row("timeout", Answer(200, b"{}", delay=1.5), None, False),
    Row("cut short", Answer(200, card().body, cut=7), None, False),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_lic_03_every_status_has_its_one_meaning(hub: StubServer, row: Row) -> None:
    hub.always(PATH, card())
    first = hub_watcher(hub).look(None, NOW)
    assert [o.state for o in first.observations] == [State.ACTIVE]
    hub.always(PATH, row.answer)
    look = hub_watcher(hub).look(first.cursor, NOW + timedelta(days=7))
    assert [o.state for o in look.observations] == ([] if row.state is None else [row.state])
    assert look.looked is row.looked
    assert (look.problem is None) is row.looked
    for observation in look.observations:
        assert TermsObservation.from_record(json.loads(json.dumps(observation.to_record()))) == observation
    # Seen again, nothing new is to be said.
    if row.looked:
        assert hub_watcher(hub).look(look.cursor, NOW + timedelta(days=8)).observations == ()


def test_lic_03_a_renamed_repository_is_followed_and_recorded(hub: StubServer) -> None:
    """ADV: the redirect is followed silently; only the id in the answer tells."""
    hub.always("/api/datasets/old/name", Answer(307, b"", {"location": "/api/datasets/new/name"}))
    hub.always("/api/datasets/new/name", card("new/name"))
    look = hub_watcher(hub, "old/name").look(None, NOW)
    (seen,) = look.observations
    assert (seen.state, seen.detail["renamed"]) == (State.ACTIVE, {"from": "old/name", "to": "new/name"})
    hub.always("/api/datasets/old/name", card("old/name", "gpl-3.0"))  # somebody else takes the old name
    assert hub_watcher(hub, "old/name").look(look.cursor, NOW).observations == ()


def watch_hourly(hub: StubServer, answers: list[Answer]) -> list[tuple[int, State]]:
    """Hour and state of everything reported."""
    found, cursor = [], None
    for hour, answer in enumerate(answers):
        hub.always(PATH, answer)
        look = hub_watcher(hub).look(cursor, NOW + timedelta(hours=hour))
        cursor = look.cursor
        found += [(hour, o.state) for o in look.observations]
    return found


def test_lic_03_deleted_needs_three_confirmations_over_a_day(hub: StubServer) -> None:
    gone = Answer(404)
    assert watch_hourly(hub, [card(), *[gone] * 24]) == [(0, State.ACTIVE)], "23 hours"
    assert watch_hourly(hub, [card(), *[gone] * 30]) == [(0, State.ACTIVE), (25, State.DELETED)], "and only once"
    assert watch_hourly(hub, [card(), *[gone] * 20, card(), *[gone] * 20]) == [(0, State.ACTIVE)], "it was there in between"
    assert watch_hourly(hub, [card(), gone, *[Answer(503)] * 23, gone]) == [(0, State.ACTIVE)], "two confirmations"
    assert watch_hourly(hub, [card(), *[gone] * 25, card()])[-1] == (26, State.ACTIVE)


@pytest.mark.parametrize("answer", [Answer(500), Answer(503), Answer(401), Answer(403), Answer(429), Answer(200, b"?")])
def test_lic_03_no_number_of_transient_errors_deletes(hub: StubServer, answer: Answer) -> None:
    """ADV: "not reachable for two days, so it is gone" is what a naive watcher concludes from an outage."""
    assert watch_hourly(hub, [card(), *[answer] * 50]) == [(0, State.ACTIVE)]


def test_lic_03_what_the_ledger_makes_of_a_takedown_and_an_outage(hub: StubServer, tmp_path: Path) -> None:
    """The looks go into a real ledger: a page that answers again lifts a deletion, but neither a takedown nor a relicensing."""
    ledger = Ledger.open(LocalBackend(tmp_path / "store"), f"sqlite:///{tmp_path / 'ledger.db'}")
    nc = card(license="cc-by-nc-4.0")
    story = [
        (card(), State.ACTIVE),
        (Answer(503), State.ACTIVE),
        (nc, State.RELICENSED),
        (card(license="cc-by-nc-4.0", gated="auto"), State.RELICENSED),
        (Answer(451), State.TAKEDOWN),
        (nc, State.TAKEDOWN),
    ]
    cursor = None
    try:
        for day, (answer, expected) in enumerate(story):
            now = NOW + timedelta(days=day)
            hub.always(PATH, answer)
            look = hub_watcher(hub).look(cursor, now)
            cursor = look.cursor
            for observation in look.observations:
                ledger.observe(observation)
            assert ledger.state("raw/x", now, now).state is expected, day
    finally:
        ledger.close()


# ---- LIC-06: withdrawn rows


def test_lic_06_exactly_the_37_withdrawn_rows_are_found(tmp_path: Path) -> None:
    acquired = [row_id(number) for number in range(20_000)]
    withdrawn = set(acquired[11::540][:37])
    assert len(withdrawn) == 37
    upstream = [row for row in acquired if row not in withdrawn] + [row_id(number) for number in range(20_000, 20_500)]
    for name, rows in (("acquired", acquired), ("upstream", upstream[::-1])):
        pq.write_table(pa.table({"row_id": rows}), tmp_path / f"{name}.parquet", row_group_size=1000)
    watcher = UpstreamRowsWatcher("raw/x")
    look = watcher.look([tmp_path / "acquired.parquet"], [tmp_path / "upstream.parquet"], None, NOW)
    (seen,) = look.observations
    assert (seen.state, set(seen.rows), len(seen.rows)) == (State.WITHDRAWN_ROWS, withdrawn, 37)
    assert seen.detail["added"] == 500
    # ADV: the number of rows, which is what people look at, went up.
    assert len(upstream) > len(acquired)


# ---- LIC-07: unknown is never allowed


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ("other", "'other'"),
        ("", "no license"),
        (["mit", "other"], "'other'"),
        ("apache-2.O", "apache-2.O"),
        ("Apache 2.0", "Apache 2.0"),
    ],
)
def test_lic_07_unknown_tags_stay_unknown_and_are_named(hub: StubServer, declared: object, named: str) -> None:
    hub.always(PATH, card(license=declared))
    (seen,) = hub_watcher(hub).look(None, NOW).observations
    assert seen.state is State.UNKNOWN
    assert named in seen.detail["problem"]
    found = assess(SourceTerms(name="raw/x", declared=seen.declared), POLICY)
    assert found.status == State.UNKNOWN
    assert not any(found.rights[use].usable for use in Use)
    assert any(named in problem for problem in found.problems)


@pytest.fixture(scope="module")
def audited(shared_data: Path) -> list[dict[str, Any]]:
    """The 2,311 dataset ids of the Data Provenance Initiative's audit (its template left out)."""
    entries: list[dict[str, Any]] = []
    with gzip.open(shared_data / "dpi" / "data_summaries.jsonl.gz", "rt") as lines:
        for line in lines:
            entries += json.loads(line)["json"].values()
    entries = [entry for entry in entries if not any(str(item["License"]).startswith("string (") for item in entry["Licenses"])]
    assert len(entries) == 2311
    return entries


@pytest.fixture(scope="module")
def spdx_of(shared_data: Path) -> dict[str, str]:
    """The audit's name of a license to SPDX, read from its own constants: the name, or a paraphrase that agrees with it."""
    classes = read_json(shared_data / "dpi" / "constants__license_classes.json.gz")
    paraphrases = read_json(shared_data / "dpi" / "constants__license_paraphrases.json.gz")
    found = {}
    for name in {*classes, *paraphrases}:
        words = name.replace(" License", "").replace("GNU General Public", "GPL").replace("Academic Free", "AFL").replace(" v", " ")
        spelled = [words, words.replace(" ", "-")]
        agreeing = [tag for tag in paraphrases.get(name, []) if words.casefold().startswith(tag.split("-")[0].casefold())]
        for candidate in [*spelled, *agreeing]:
            if parse_license(candidate).expression is not None:
                found[name] = candidate
                break
    assert all(re.findall(r"\d", tag) == re.findall(r"\d", name) for name, tag in found.items() if re.search(r"\d", name)), found
    return found


def declared_names(entry: dict[str, Any]) -> tuple[str, ...]:
    """What the hub, its configuration and GitHub say, in the audit's names."""
    inferred = entry.get("Inferred Metadata") or {}
    names = (inferred.get(key) for key in ("HF Yaml License", "HF Config License", "GitHub License"))
    return tuple(dict.fromkeys(str(name) for name in names if name))


def test_lic_07_every_tag_of_the_audit_normalizes_or_stays_unknown(
    hub: StubServer, audited: list[dict[str, Any]], spdx_of: dict[str, str]
) -> None:
    counts: Counter[State] = Counter()
    ids: Counter[State] = Counter()
    for name, number in Counter(name for entry in audited for name in declared_names(entry)).items():
        tag = spdx_of.get(name, name)
        hub.always(PATH, card(license=tag))
        (seen,) = hub_watcher(hub).look(None, NOW).observations
        assert (seen.state is State.ACTIVE) is (parse_license(tag).expression is not None), tag
        assert seen.state in (State.ACTIVE, State.UNKNOWN)
        assert not any(assess(SourceTerms(name="x", declared=seen.declared), POLICY).rights[use].usable for use in Use)
        counts[seen.state] += 1
        ids[seen.state] += number
    print(f"audit: names {dict(counts)}, mentions {dict(ids)}")
    assert counts[State.ACTIVE] >= 18
    assert counts[State.UNKNOWN] >= 1


def test_lic_07_declared_against_verified_is_never_silently_allowed(audited: list[dict[str, Any]], spdx_of: dict[str, str]) -> None:
    """Where hosts and auditors disagree, the terms are disputed (both bind) or unknown; trusting the host errs hundreds of times."""
    letter = read_evidence("audit", b"The terms, as the auditors read them.")
    compared = disagree = denied = unknown = 0
    statuses: Counter[str] = Counter()
    for entry in audited:
        names = [name for name in declared_names(entry) if name != "Unspecified"]
        if not names:
            continue
        declared = tuple(spdx_of.get(name, name) for name in names)
        verified = [str(item["License"]) for item in entry["Licenses"]]
        concluded = " AND ".join(f"({spdx_of.get(name, 'LicenseRef-none' if name == 'No License' else name)})" for name in verified)
        compared += 1
        if equivalent(parse_license(declared), parse_license(concluded)):
            continue
        disagree += 1
        found = assess(SourceTerms(name="x", declared=declared, concluded=concluded, evidence=(letter,)), POLICY)
        statuses[found.status] += 1
        assert found.status in (State.DISPUTED, State.UNKNOWN), (declared, concluded)
        trusted = POLICY.rights(parse_license(declared))
        read = POLICY.rights(parse_license(concluded))
        for use in Use:
            # Used only if each side by itself allows it.
            assert not found.rights[use].usable or (trusted[use].usable and read[use].usable), (use, declared, concluded)
        if trusted[Use.COMMERCIAL_MODEL].usable:
            denied += read[Use.COMMERCIAL_MODEL].level is Level.DENY
            unknown += read[Use.COMMERCIAL_MODEL].level is Level.UNKNOWN
    print(
        f"audit: compared {compared}, disagree {disagree}, {dict(statuses)}; hosts allow what is denied {denied}, unknown {unknown}"
    )
    assert disagree > 500
    assert denied > 100, "trusting the host errs"


# ---- LIC-08: files that contradict each other


def test_lic_08_the_most_restrictive_file_counts_until_somebody_concludes(tmp_path: Path) -> None:
    files = {
        "LICENSE": "Apache License\nVersion 2.0, January 2004\n",
        "DATA_LICENSE": "Attribution-NonCommercial 4.0 International\n",
        "README.md": "# Alpaca\n\nThe dataset is for research use only.\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    person = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*person, "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, env=environment, check=True)
    look: Look = GitWatcher("raw/alpaca", tmp_path).look(None, NOW)
    (seen,) = look.observations
    assert seen.state is State.DISPUTED
    strictest = set(seen.detail["strictest"]["commercial_model"])
    assert strictest >= {"DATA_LICENSE: CC-BY-NC-4.0", "README.md: research only"}
    assert not any(said.startswith("LICENSE:") for said in strictest)
    evidence = tuple(read_evidence(name, look.documents[e.sha256]) for e in seen.exhibits for name in [e.uri])
    for concluded in (None, "Apache-2.0"):
        found = assess(SourceTerms(name="raw/alpaca", declared=seen.declared, concluded=concluded, evidence=evidence), POLICY)
        assert not found.rights[Use.COMMERCIAL_MODEL].usable
    read = assess(
        SourceTerms(name="raw/alpaca", declared=seen.declared, concluded="Apache-2.0 AND CC-BY-NC-4.0", evidence=evidence), POLICY
    )
    assert (read.status, read.rights[Use.TRAIN].usable, read.rights[Use.COMMERCIAL_MODEL].usable) == (State.ACTIVE, True, False)


# ---- LIC-10: the dead-man


def test_lic_10_a_watcher_that_stopped_is_noticed(hub: StubServer) -> None:
    """The watcher runs daily for ten days, then the hub is down: every run "succeeds", and only the dead-man speaks up."""
    last: dict[str, datetime] = {}
    decisions: list[Decision] = []
    reported: list[int] = []
    cursor = None
    for day in range(40):
        now = NOW + timedelta(days=day)
        hub.always(PATH, card() if day < 10 else Answer(503))
        look = hub_watcher(hub).look(cursor, now)
        cursor = look.cursor
        reported += [day] * len(look.observations)
        if look.looked:
            last[look.source] = now
        decisions.append(license_fresh(last, {"raw/x": SCRAPED_TTL}, now).decision)
    last_day = 9
    assert set(decisions[: last_day + 8]) == {Decision.PASS}
    assert set(decisions[last_day + 8 : last_day + 22]) == {Decision.WARN}
    assert set(decisions[last_day + 22 :]) == {Decision.FAIL}
    # ADV: the runs themselves end well and report no change, in the outage as before: their success proves nothing.
    assert reported == [0]
