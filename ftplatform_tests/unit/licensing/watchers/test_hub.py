"""The hub watcher beyond the truth table (that is in the acceptance tests): changes, order of states, hostile answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from ftplatform.canonical import canonical_json
from ftplatform.errors import InputDataError
from ftplatform.licensing.states import State
from ftplatform.licensing.watchers.hub import HubWatcher
from ftplatform.licensing.watchers.look import Look
from ftplatform_tests.unit.licensing.watchers.stub_server import Answer, StubServer, card, stub_server

PATH = "/api/datasets/org/data"


def watcher(server: StubServer, **options: object) -> HubWatcher:
    return HubWatcher("raw/x", "org/data", server.fetcher(), endpoint=server.url, **options)  # type: ignore[arg-type]


def looks(server: StubServer, now: datetime, *answers: Answer) -> list[Look]:
    """One look an hour for each answer."""
    found: list[Look] = []
    for hour, answer in enumerate(answers):
        server.always(PATH, answer)
        found.append(watcher(server).look(found[-1].cursor if found else None, now + timedelta(hours=hour)))
    return found


def states(found: list[Look]) -> list[list[State]]:
    return [[observation.state for observation in look.observations] for look in found]


def test_first_look_reports_the_declaration_and_the_next_nothing(server: StubServer, now: datetime) -> None:
    first, second = looks(server, now, card(), card())
    (seen,) = first.observations
    assert (seen.state, seen.declared, seen.revision, seen.watcher) == (State.ACTIVE, "mit", "a" * 40, "hub")
    assert seen.concluded is None, "a tag is never a conclusion"
    assert (second.looked, second.observations) == (True, ())
    assert orjson.loads(orjson.dumps(second.cursor)) == second.cursor, "plain data"


def test_changed_license_is_reported_once_with_what_was_before(server: StubServer, now: datetime) -> None:
    nc = card(license="cc-by-nc-4.0", lastModified="2026-11-22T09:00:00.000Z")
    found = looks(server, now, card(), nc, nc)
    assert states(found) == [[State.ACTIVE], [State.RELICENSED], []]
    (seen,) = found[1].observations
    assert (seen.declared, seen.detail["before"]) == ("cc-by-nc-4.0", {"license": "MIT"})
    assert seen.valid_from == datetime(2026, 11, 22, 9, tzinfo=UTC)


def test_gate_that_comes_with_other_terms_is_reported_after_them(server: StubServer, now: datetime) -> None:
    both = card(license="gpl-3.0", gated="auto")
    assert states(looks(server, now, card(), both, both, both)) == [[State.ACTIVE], [State.RELICENSED], [State.GATED], []]


def test_terms_that_change_while_it_is_disabled_are_seen_when_it_is_back(server: StubServer, now: datetime) -> None:
    found = looks(server, now, card(), card(license="gpl-3.0", disabled=True), card(license="gpl-3.0"))
    assert states(found) == [[State.ACTIVE], [State.DISABLED], [State.RELICENSED]]


def test_tag_without_license_is_no_news_once_a_person_concluded(server: StubServer, now: datetime) -> None:
    server.always(PATH, card(license="other"))
    assert [o.state for o in watcher(server).look(None, now).observations] == [State.UNKNOWN]
    assert [o.state for o in watcher(server).look(None, now, concluded=True).observations] == [State.ACTIVE]


@pytest.mark.parametrize("modified", ["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon", None, 7])
def test_modification_time_outside_of_the_looks_is_not_believed(server: StubServer, now: datetime, modified: object) -> None:
    _, second = looks(server, now, card(), card(license="gpl-3.0", lastModified=modified))
    assert second.observations[0].valid_from == now + timedelta(hours=1)


def test_other_spelling_of_the_same_license_is_no_change(server: StubServer, now: datetime) -> None:
    assert states(looks(server, now, card(license="apache-2.0"), card(license="Apache-2.0"), card(license=["apache-2.0"]))) == [
        [State.ACTIVE],
        [],
        [],
    ]


def test_removed_license_and_changed_license_name_are_changes(server: StubServer, now: datetime) -> None:
    named = {"license": "other", "license_name": "acme-1"}
    renamed = {"license": "other", "license_name": "acme-2"}
    found = looks(
        server, now, card(), card(license=None), card(license="other", cardData=named), card(license="other", cardData=renamed)
    )
    assert states(found) == [[State.ACTIVE], *[[State.RELICENSED]] * 3]
    assert found[1].observations[0].declared == ""


def test_card_and_tags_that_disagree_are_disputed_and_both_bind(server: StubServer, now: datetime) -> None:
    (look,) = looks(server, now, card(license="mit", tags=["license:cc-by-nc-4.0", "size:1K"]))
    (seen,) = look.observations
    assert (seen.state, seen.declared) == (State.DISPUTED, ("mit", "cc-by-nc-4.0"))
    assert watcher(server).look(look.cursor, now).observations == ()


def test_what_comes_back_is_active_and_reinstates_nothing(server: StubServer, now: datetime) -> None:
    """ADV: a page that answers 200 again retracts no legal notice; calling it reinstated would lift the notices of everybody else."""
    for gone in (card(disabled=True), Answer(451)):
        assert states(looks(server, now, card(), gone, card(), card()))[2:] == [[State.ACTIVE], []]
        assert states(looks(server, now, card(), gone, card(license="gpl-3.0")))[2:] == [[State.RELICENSED]]


def test_gate_opened_again_is_active(server: StubServer, now: datetime) -> None:
    assert states(looks(server, now, card(), card(gated="manual"), card(gated=False))) == [
        [State.ACTIVE],
        [State.GATED],
        [State.ACTIVE],
    ]


def test_successful_look_in_between_starts_the_confirmations_anew(server: StubServer, now: datetime) -> None:
    gone = Answer(404)
    found = looks(server, now, card(), gone, gone, card(), *[gone] * 24)
    assert all(state == [] for state in states(found)[1:])


def test_many_looks_within_a_minute_confirm_nothing(server: StubServer, now: datetime) -> None:
    """ADV: three tries in a row is what a naive confirmation counts."""
    server.always(PATH, Answer(404))
    look = watcher(server).look(None, now)
    for second in range(1, 10):
        look = watcher(server).look(look.cursor, now + timedelta(seconds=second))
        assert look.observations == ()
    assert look.cursor["missing"]["times"] == 10
    look = watcher(server).look(look.cursor, now + timedelta(hours=24))
    assert [(o.state, o.valid_from) for o in look.observations] == [(State.DELETED, now)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 7}',
        b'{"id": "../../etc"}',
        b'{"id": "a/b/c"}',
        b"[" * 100_000,
        b'{"id": "org/data"',
        b"\xff\xfe",
    ],
)
def test_nonsense_is_transient(server: StubServer, now: datetime, body: bytes) -> None:
    first, second = looks(server, now, card(), Answer(200, body))
    assert (second.looked, second.observations, second.cursor) == (False, (), first.cursor)


@pytest.mark.parametrize("metadata", [None, [], "mit", {"license": {"a": 1}}, {"license": 7}, {"license": [None, "x"]}])
def test_odd_metadata_names_no_license(server: StubServer, now: datetime, metadata: object) -> None:
    (look,) = looks(server, now, card(cardData=metadata, tags="license:mit"))
    assert [o.state for o in look.observations] == [State.UNKNOWN]


@pytest.mark.parametrize("license", [["mit"] * 500 + ["other"], "mit AND " * 5000 + "mit", ["x" * 100_000, "mit"]])
def test_endless_declarations_stay_unknown_and_short(server: StubServer, now: datetime, license: object) -> None:
    huge = {"license": license, "license_name": {"deep": [2**62]}}
    (look,) = looks(server, now, card(cardData=huge, tags=[], gated=2**60))
    (seen,) = look.observations
    assert seen.detail["license"] is None
    assert len(canonical_json(seen.to_record())) < 10_000
    assert len(canonical_json(dict(look.cursor))) < 10_000


def test_token_goes_to_the_endpoint_only_and_into_no_message(
    server: StubServer, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TEST_TOKEN", "hf_secretsecretsecret")
    with stub_server() as elsewhere:
        elsewhere.always("/x", card())
        server.always(PATH, Answer(307, b"", {"location": f"{elsewhere.url}/x"}))
        fetcher = server.fetcher(allow={server.netloc, elsewhere.netloc})
        look = HubWatcher("raw/x", "org/data", fetcher, endpoint=server.url, token_variable="HUB_TEST_TOKEN").look(None, now)
        assert look.looked
        assert server.requests[0][1]["authorization"] == "Bearer hf_secretsecretsecret"
        assert "authorization" not in elsewhere.requests[0][1]
    server.always(PATH, Answer(401))
    look = watcher(server, token_variable="HUB_TEST_TOKEN").look(None, now)
    assert "secret" not in repr(look)


def test_no_token_no_header(server: StubServer, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", " ")
    server.always(PATH, card())
    watcher(server).look(None, now)
    assert "authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    "repository", ["", "../x", "a/b/c", "org/", "/data", "org/da ta", "org/data?x=1", "org/da..ta", "org/data\n"]
)
def test_ids_that_are_paths_are_refused(server: StubServer, repository: str) -> None:
    with pytest.raises(InputDataError):
        HubWatcher("raw/x", repository, server.fetcher())


def test_plain_http_endpoint_is_refused(server: StubServer) -> None:
    with pytest.raises(InputDataError, match="https"):
        HubWatcher("raw/x", "org/data", server.fetcher(), endpoint="http://hub.example.com")


def test_models_have_their_own_address(server: StubServer, now: datetime) -> None:
    server.always("/api/models/gpt2", card("gpt2"))
    assert HubWatcher("base", "gpt2", server.fetcher(), kind="models", endpoint=server.url).look(None, now).looked
