"""M2: the license as a state with two clocks, on real histories of license files and real takedowns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.licensing.checks import license_allows_use
from ftplatform.licensing.evidence import Evidence
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.registry import ChainError, EventLog, Heartbeat, Ledger, LicenseDecision, TermsState
from ftplatform.licensing.registry.events import event_key
from ftplatform.licensing.rights import Level, Use
from ftplatform.licensing.states import Exhibit, State, TermsObservation, to_time
from ftplatform.licensing.terms import SourceTerms, assess
from ftplatform.store.backend import Backend
from ftplatform.store.local import LocalBackend
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.postgres import new_database
from ftplatform_tests.real_data import read_jsonl
from ftplatform_tests.unit.licensing.registry import appender, factories

POLICY = default_policy()


@pytest.fixture
def backend() -> Backend:
    return MemoryBackend(uuid.uuid4().hex)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, backend: Backend, tmp_path: Path) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Ledger.open(backend, url)
    yield opened
    opened.close()


def level(found: TermsState, use: Use) -> Level:
    """What the default policy permits, from what the ledger knows."""
    terms = SourceTerms(
        name=found.source,
        declared=found.declared,
        concluded=found.concluded,
        concluded_by=found.concluded_by,
        evidence=tuple(Evidence(e.uri, e.sha256, e.text_digest) for e in found.exhibits),
    )
    return assess(terms, POLICY).rights[use].level


def exhibit(uri: str, text: str) -> Exhibit:
    return Exhibit(uri, sha256_hex(text.encode()), sha256_hex(text.encode()))


# ---- real license files ----------------------------------------------------------------------------------------------------

_STATES = {
    "added": State.ACTIVE,
    "edited-same-licence": State.ACTIVE,
    "changed-licence": State.RELICENSED,
    "removed": State.UNKNOWN,
}


def license_events(shared_data: Path) -> list[tuple[dict[str, Any], TermsObservation]]:
    """The dated events of license files, in time order, with what a watcher of the repository reports the moment they happen."""
    events = read_jsonl(shared_data / "licence_events" / "licence_events.jsonl.gz")
    events.sort(key=lambda e: (to_time(e["date"]), e["repo"], e["path"]))
    return [(event, observed_now(event)) for event in events]


def observed_now(event: dict[str, Any]) -> TermsObservation:
    at = to_time(event["date"])
    return TermsObservation(
        source=f"{event['repo']}/{event['path']}",
        state=_STATES.get(event["event"], State.ACTIVE),
        valid_from=at,
        observed_at=at,
        watcher="git",
        declared=event["spdx"] or "NOASSERTION",
        exhibits=(Exhibit(event["path"], event["sha256"]),) if event.get("sha256") else (),
        revision=event["commit"],
    )


def test_real_license_histories_replayed(ledger: Ledger, shared_data: Path) -> None:
    history = license_events(shared_data)
    assert (len(history), len({said.source for _, said in history})) == (193, 125)
    open_since: dict[str, TermsObservation] = {}
    answered: list[TermsState] = []
    for step, (event, said) in enumerate(history):
        ledger.append(said)
        found = ledger.state(said.source, said.valid_from, said.observed_at)
        assert found.declared == (event["spdx"] or "NOASSERTION")
        # A change stays a change until a person concludes, whatever the watcher sees next; the more severe one shows.
        current = open_since.get(said.source)
        if said.state is not State.ACTIVE and (
            current is None or current.state is not State.RELICENSED or said.state is current.state
        ):
            open_since[said.source] = said
        deciding = open_since.get(said.source, said)
        assert (found.state, found.valid_from) == (deciding.state, deciding.valid_from)
        answered.append(found)
        for earlier in range(0, step, 29):
            assert same_answer(ledger, history[earlier][1], answered[earlier])
    assert all(same_answer(ledger, said, found) for (_, said), found in zip(history, answered, strict=True))
    assert Counter(str(found.state) for found in answered) >= Counter(relicensed=12, unknown=11)
    at_the_end = history[-1][1].observed_at
    for name, found in ledger.states(at_the_end, at_the_end).items():
        last = [said for _, said in history if said.source == name][-1]
        assert found.declared == last.declared


def same_answer(ledger: Ledger, said: TermsObservation, found: TermsState) -> bool:
    return ledger.state(said.source, said.valid_from, said.observed_at) == found


def test_one_mutable_row_per_source_forgets(ledger: Ledger, shared_data: Path) -> None:
    """ADV: the obvious ledger answers "what did we know then?" with what it knows now, for every source that ever changed."""
    history = license_events(shared_data)
    row = {said.source: said for _, said in history}
    ledger.append_many(said for _, said in history)
    wrong = 0
    for _, said in history:
        found = ledger.state(said.source, said.valid_from, said.observed_at)
        assert found.declared == said.declared
        wrong += row[said.source].declared != said.declared
    assert wrong == 34, "steps at which the row answers with a license of another time"


# ---- Alpaca ------------------------------------------------------------------------------------------------------------------

UPSTREAM, COPY = "tatsu-lab/stanford_alpaca/DATA_LICENSE", "tloen/alpaca-lora/DATA_LICENSE"


def test_alpaca_was_relicensed_a_day_after_its_release(ledger: Ledger, shared_data: Path) -> None:
    case = json.loads((shared_data / "licence_events" / "case_alpaca_relicence.json").read_text())
    ledger.append_many(observed_now(event) for event in sorted(case["events"], key=lambda e: to_time(e["date"])))
    for moment, upstream in {
        "2023-03-13T08:15:00-07:00": None,
        "2023-03-13T08:15:01-07:00": "ODC-By-1.0",
        "2023-03-13": None,  # its midnight in UTC is before the release
        "2023-03-14T22:28:54-07:00": "ODC-By-1.0",
        "2023-03-14T22:28:55-07:00": "CC-BY-NC-4.0",
        "2024-01-01": "CC-BY-NC-4.0",
    }.items():
        at = to_time(moment)
        assert ledger.state(UPSTREAM, at, at).declared == upstream, moment
    later = to_time("2024-01-01")
    assert (ledger.state(UPSTREAM, later, later).state, ledger.state(COPY, later, later).state) == ("relicensed", "active")
    assert ledger.state(COPY, later, later).declared == "ODC-By-1.0", "the copy never followed"
    grant = ledger.state(UPSTREAM, later, later).grant
    assert grant is not None
    assert grant.declared == "ODC-By-1.0"


def test_the_repository_derived_from_alpaca_is_exposed_from_the_day_of_the_change(ledger: Ledger, shared_data: Path) -> None:
    case = json.loads((shared_data / "licence_events" / "case_alpaca_relicence.json").read_text())
    ledger.append_many(observed_now(event) for event in sorted(case["events"], key=lambda e: to_time(e["date"])))
    upstream_row, copied_row = "a" * 64, "b" * 64
    columns = {"row_id": [copied_row], "origins": [[COPY]], "parents": [[upstream_row]]}
    schema = pa.schema([("row_id", pa.string()), ("origins", pa.list_(pa.string())), ("parents", pa.list_(pa.string()))])
    rows = pa.table(columns, schema=schema)
    parents = pa.table({"row_id": [upstream_row], "origins": [[UPSTREAM]], "parents": [[]]}, schema=schema)

    def allowed(day: str, *, parents: pa.Table | None) -> bool:
        """Whether a commercial model may be trained on the copied row, by what was so and known at the end of the day in California."""
        at = to_time(f"{day}T23:59:59-07:00")
        terms = []
        for name, found in ledger.states(at, at).items():
            # Somebody read the files on each of these days and concluded what they say.
            evidence = (Evidence(name, "0" * 64, "0" * 64),)
            terms.append(
                SourceTerms(name=name, declared=found.declared, concluded=found.declared, concluded_by="x", evidence=evidence)
            )
        return license_allows_use(rows, terms, ["commercial_model"], POLICY, parent_rows=parents).passed

    days = ["2023-03-13", "2023-03-14", "2023-03-15", "2024-01-01"]
    assert [allowed(day, parents=parents) for day in days] == [True, False, False, False]
    # The naive check asks the copy's own license file, which never changed.
    naive = rows.set_column(2, "parents", pa.array([[]], pa.list_(pa.string())))
    at = to_time("2024-01-01")
    own = SourceTerms(
        name=COPY,
        declared=ledger.state(COPY, at, at).declared,
        concluded=ledger.state(COPY, at, at).declared,
        concluded_by="x",
        evidence=(Evidence(COPY, "0" * 64, "0" * 64),),
    )
    assert license_allows_use(naive, [own], ["commercial_model"], POLICY).passed


def lic_02() -> list[TermsObservation]:
    """Concluded in March, changed upstream on 2023-05-15, noticed on 2023-07-04."""
    acquired, changed, noticed = (to_time(day) for day in ("2023-03-20", "2023-05-15", "2023-07-04"))
    first = TermsObservation(
        source="raw/alpaca",
        state=State.ACTIVE,
        valid_from=acquired,
        observed_at=acquired,
        watcher="declaration",
        declared="cc-by-4.0",
        concluded="CC-BY-4.0",
        concluded_by="counsel",
        exhibits=(exhibit("README.md", "license: cc-by-4.0"),),
    )
    change = TermsObservation(
        source="raw/alpaca",
        state=State.RELICENSED,
        valid_from=changed,
        observed_at=noticed,
        watcher="hub",
        declared="cc-by-nc-4.0",
        exhibits=(exhibit("README.md", "license: cc-by-nc-4.0"),),
    )
    return [first, change]


@pytest.mark.parametrize(
    ("valid", "known", "state", "expected"),
    [
        ("2023-06-01", "2023-06-01", State.ACTIVE, Level.ALLOW_IF),
        ("2023-06-01", "2023-07-05", State.RELICENSED, Level.DENY),
        ("2023-04-01", "2023-07-05", State.ACTIVE, Level.ALLOW_IF),
        ("2023-03-01", "2023-07-05", State.UNKNOWN, Level.UNKNOWN),
    ],
)
def test_lic_02_what_was_so_and_what_was_known(ledger: Ledger, valid: str, known: str, state: State, expected: Level) -> None:
    ledger.append_many(lic_02())
    found = ledger.state("raw/alpaca", to_time(valid), to_time(known))
    assert (found.state, level(found, Use.COMMERCIAL_MODEL)) == (state, expected)


def test_lic_02_one_mutable_row_blames_us_for_what_nobody_knew(ledger: Ledger) -> None:
    """ADV: trained on 2023-06-01. The row says the license was non-commercial; the ledger says what was known that day."""
    row: dict[str, TermsObservation] = {}
    for said in lic_02():
        ledger.append(said)
        row[said.source] = said
    assert row["raw/alpaca"].declared == "cc-by-nc-4.0"
    that_day = to_time("2023-06-01")
    assert ledger.state("raw/alpaca", that_day, that_day).declared == "cc-by-4.0"


def test_every_decision_records_its_policy(ledger: Ledger) -> None:
    ledger.append_many(lic_02())
    that_day = to_time("2023-06-01")
    found = ledger.state("raw/alpaca", that_day, that_day)
    decision = LicenseDecision(
        asset="adapters/support",
        snapshot="a" * 64,
        use=Use.COMMERCIAL_MODEL,
        verdict=level(found, Use.COMMERCIAL_MODEL),
        policy_sha256=POLICY.digest,
        as_of_valid=that_day,
        as_of_known=that_day,
        decided_at=that_day,
        reasons=tuple(f"event {seq}" for seq in found.events),
    )
    ledger.append(decision)
    (again,) = ledger.decisions("adapters/support")
    assert again == decision
    asked_again = ledger.state("raw/alpaca", again.as_of_valid, again.as_of_known)
    assert level(asked_again, again.use) is again.verdict is Level.ALLOW_IF


# ---- takedowns ---------------------------------------------------------------------------------------------------------------


def takedowns(shared_data: Path, beginnings: tuple[str, ...]) -> list[TermsObservation]:
    """Takedowns, counter-notices and retractions of repositories whose id begins so, one observation each."""
    found = []
    for event in read_jsonl(shared_data / "dmca_events" / "github_dmca_events.jsonl.gz"):
        at = to_time(event["date"])
        state = State.TAKEDOWN if event["kind"] == "notice" else State.REINSTATED
        found += [
            TermsObservation(
                source=f"repo/{repo}", state=state, valid_from=at, observed_at=at, watcher="dmca", detail={"blob": event["blob"]}
            )
            for repo in event["repo_ids"]
            if repo.startswith(beginnings)
        ]
    return found


@pytest.mark.parametrize(("where", "beginnings"), [("memory", ("0",)), ("disk", ("20", "21", "22", "23"))])
def test_real_takedowns_and_reversals_replayed(where: str, beginnings: tuple[str, ...], shared_data: Path, tmp_path: Path) -> None:
    """A part of the 156,400 pairs of event and repository, picked by the beginning of the id: on disk each one costs two syncs."""
    observations = takedowns(shared_data, beginnings)
    place = MemoryBackend(uuid.uuid4().hex) if where == "memory" else LocalBackend(tmp_path / "store")
    ledger = Ledger.open(place, f"sqlite:///{tmp_path}/ledger.db")
    started = time.perf_counter()
    ledger.append_many(observations)
    rate = len(observations) / (time.perf_counter() - started)
    final: dict[str, TermsObservation] = {}
    for said in observations:  # in time order; on the same day the later entry
        final[said.source] = said
    now = datetime(2026, 11, 22, tzinfo=UTC)
    found = ledger.states(now, now)
    assert {name: state.state for name, state in found.items()} == {name: said.state for name, said in final.items()}
    states = Counter(str(state.state) for state in found.values())
    assert states["reinstated"] > 20
    assert states["takedown"] > 1500
    last = observations[-1]
    assert ledger.state(last.source, now, now) == found[last.source]
    assert rate > 100, f"{rate:.0f} events a second"


# ---- LIC-12 and crashes --------------------------------------------------------------------------------------------------------


def test_lic_12_the_index_is_rebuilt_to_the_byte(
    ledger: Ledger, backend: Backend, shared_data: Path, tmp_path: Path, postgres_url: str
) -> None:
    ledger.append_many([*(said for _, said in license_events(shared_data)), *lic_02()])
    ledger.observe(lic_02()[1])
    ledger.append(Heartbeat("raw/alpaca", "hub", to_time("2023-08-01")))
    before = ledger.export()
    assert before.count(b"\n") > 2 * 195
    ledger.rebuild()
    assert ledger.export() == before
    for url in (f"sqlite:///{tmp_path}/other.db", new_database(postgres_url)):
        other = Ledger.open(backend, url)
        assert other.export() == before
        other.close()


def test_lic_12_a_tampered_event_is_named(ledger: Ledger, backend: Backend, shared_data: Path) -> None:
    """Somebody makes Alpaca's change of license disappear from the log."""
    ledger.append_many(said for _, said in license_events(shared_data))
    (change,) = [r for r in ledger.history(UPSTREAM) if r.observation.declared == "CC-BY-NC-4.0"]
    stored = backend.get(event_key(change.seq))
    assert stored is not None
    forged = json.loads(stored.data)
    forged["body"]["declared"] = "ODC-By-1.0"
    backend.delete_if_older(event_key(change.seq), float("inf"))
    backend.put_if_absent(event_key(change.seq), canonical_json(forged))
    with pytest.raises(ChainError, match=f"event {change.seq} was changed") as caught:
        ledger.rebuild()
    assert event_key(change.seq) in str(caught.value)
    assert ledger.history(UPSTREAM)[-1] == change


def test_a_crash_between_log_and_index_is_healed_at_the_next_open(backend: Backend, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    first, change = lic_02()
    Ledger.open(backend, url).append(first)
    EventLog(backend).append("terms", change.to_record())  # the process died before it wrote the index
    again = Ledger.open(backend, url)
    assert [r.observation for r in again.history("raw/alpaca")] == [first, change]
    before = again.export()
    again.rebuild()
    assert again.export() == before


# ---- several processes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["disk and sqlite", "s3 and postgresql"])
def test_two_processes_append_at_once(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if where == "disk and sqlite":
        append_from_two_processes(str(tmp_path / "store"), {}, f"sqlite:///{tmp_path}/ledger.db", LocalBackend(tmp_path / "store"))
        return
    database = request.getfixturevalue("postgres_database")
    with factories.s3_server() as server:
        prefix = uuid.uuid4().hex
        options = {"endpoint_url": server, "region": "us-east-1"}
        append_from_two_processes(f"s3://{factories.BUCKET}/{prefix}", options, database, factories.s3_backend(server, prefix))


def append_from_two_processes(url: str, options: dict[str, str], database: str, place: Backend) -> None:
    names = ("one", "two")
    command = [sys.executable, "-m", appender.__name__, url, json.dumps(options), database]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        results = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [code for _, code in results] == [0, 0], results

    events = list(EventLog(place).read())
    each = appender.ROUNDS * (1 + appender.GROUP)
    assert [event.seq for event in events] == list(range(1, 2 * each + 1))
    writers = [event.body["source"].split("-")[0] for event in events]
    assert Counter(writers) == dict.fromkeys(names, each)
    assert sorted(writers) not in (writers, writers[::-1]), "they took turns"
    groups = [event for event in events if event.last > event.seq or event.body["source"].count("-") == 2]
    assert len(groups) == 2 * appender.ROUNDS * appender.GROUP
    ledger = Ledger.open(place, database)
    assert len(ledger.states()) == 2 * each
    before = ledger.export()
    ledger.rebuild()
    assert ledger.export() == before
    ledger.close()
