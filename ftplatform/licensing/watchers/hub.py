"""Datasets and models on the Hugging Face Hub, or a mirror with its API.

Every status has one meaning, and only some say anything about the terms:

==================================== =========================================================================
200                                  license tags compared with the last look; `gated`, `disabled`, renaming
401, 403 without a known reason      a problem with our access; no state
403 "GatedRepo", 403 "disabled"      `GATED`, `DISABLED`
404, 410                             `DELETED`, but only when confirmed several times over a day
451                                  `TAKEDOWN`
429, 5xx, timeouts, nonsense         transient; no state, and neither a confirmation nor a refutation of a deletion
==================================== =========================================================================

The Hub answers 401 or 404 for what we may not see, and says why in the header ``X-Error-Code``; its client library reads the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from ftplatform.canonical import sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.expressions import MAX_LENGTH, MAX_SYMBOLS, parse_license
from ftplatform.licensing.states import Exhibit, State, TermsObservation, to_text, to_time
from ftplatform.licensing.watchers.fetch import Fetcher, FetchFailed, Response
from ftplatform.licensing.watchers.look import Cursor, Look

ENDPOINT = "https://huggingface.co"
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?(?:/[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?)?")
_LICENSE_DETAILS = ("license_name", "license_link")


class HubWatcher:
    """Watches one repository of the Hub.

    Args:
        source: name of the source in the project.
        repository: id as acquired, e.g. ``org/name``.
        kind: ``datasets`` or ``models``.
        fetcher: HTTP; see `fetch.HttpFetcher`.
        endpoint: https address of the Hub; http only for loopback.
        token_variable: environment variable with the access token, read at each look; None: look anonymously.
        confirmations, confirm_over: how many looks must find nothing, and how long the first and last must lie apart.

    Raises:
        InputDataError: for an id or endpoint that is none.
    """

    def __init__(
        self,
        source: str,
        repository: str,
        fetcher: Fetcher,
        *,
        kind: Literal["datasets", "models"] = "datasets",
        endpoint: str = ENDPOINT,
        token_variable: str | None = "HF_TOKEN",
        confirmations: int = 3,
        confirm_over: timedelta = timedelta(hours=24),
    ) -> None:
        if not _is_id(repository):
            raise InputDataError(f"{repository[:100]!r} is no repository id.", remedy="Write org/name.")
        parts = urlsplit(endpoint)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise InputDataError(f"The hub of {source} is not reached over https.", remedy="A token must not travel in the clear.")
        self.source = source
        self.repository = repository
        self.kind = kind
        self.fetcher = fetcher
        self.endpoint = endpoint.rstrip("/")
        self.token_variable = token_variable
        self.confirmations = confirmations
        self.confirm_over = confirm_over

    def look(self, cursor: Cursor | None, now: datetime, *, concluded: bool = False) -> Look:
        """Ask the Hub once.

        Args:
            cursor: of the last look; None at first.
            now: time of this look.
            concluded: a person has concluded the terms of this source. Then a first look at a tag that names no license reports `ACTIVE`
                instead of `UNKNOWN`: it is not news, and no reason to open the matter again.

        Raises:
            UnsafeAddress: if the endpoint or a redirect of it leads into a private network that was not allowed.
        """
        cursor = cursor or {}
        repository = cursor.get("repository", self.repository)
        url = f"{self.endpoint}/api/{self.kind}/{repository}"
        token = os.environ.get(self.token_variable, "") if self.token_variable else ""
        try:
            answer = self.fetcher.fetch(url, headers={"authorization": f"Bearer {token.strip()}"} if token.strip() else {})
        except FetchFailed as error:
            return self._unchanged(cursor, f"transient: {error.message}")
        match answer.status:
            case 200:
                card = _document(answer)
                if card is None:
                    return self._unchanged(cursor, "transient: the answer describes no repository")
                return self._described(card, answer, repository, cursor, now, concluded)
            case 401:
                return self._unchanged(cursor, "the hub asks for a valid token (401)")
            case 403:
                return self._forbidden(answer, cursor, now)
            case 404 | 410:
                return self._missing(answer.status, cursor, now)
            case 451:
                return self._report(State.TAKEDOWN, cursor, now, {"status": 451}, exhibits=(_exhibit(answer),))
            case status:
                return self._unchanged(cursor, f"no usable answer (status {status})")

    def _described(
        self, card: Mapping[str, Any], answer: Response, repository: str, cursor: Cursor, now: datetime, concluded: bool
    ) -> Look:
        declared, consistent = _declared(card)
        terms: Mapping[str, Any] | None = _terms_key(declared, consistent, card)
        gated = card.get("gated") not in (None, False)
        name = str(card["id"])
        parsed = parse_license(declared)
        detail: dict[str, Any] = {"status": 200, "license": parsed.expression}
        if parsed.problem is not None:
            detail["problem"] = parsed.problem
        if gated:
            detail["gated"] = str(card["gated"])[:100]
        detail |= _named(card)
        if name != repository:
            detail["renamed"] = {"from": repository, "to": name}

        first, changed = "terms" not in cursor, "terms" in cursor and terms != cursor["terms"]
        if changed:
            detail["before"] = cursor["terms"]
        if not consistent:
            detail["problem"] = "the card and the tags of the repository name different licenses"
        if card.get("disabled") is True:
            state, terms = State.DISABLED, cursor.get("terms")  # what it says is looked at when it is back
        elif (first or changed) and not consistent:
            state = State.DISPUTED
        elif changed:
            state = State.RELICENSED
        elif gated:
            state = State.GATED
        elif first and parsed.expression is None and not concluded:
            state = State.UNKNOWN
        else:
            state = State.ACTIVE

        # A gate that came together with other terms is reported at the next look.
        access = str(state if state in (State.DISABLED, State.GATED) else State.ACTIVE)
        following: dict[str, Any] = {**cursor, "repository": name, "access": access, "missing": None, "looked": to_text(now)}
        if terms is not None:
            following["terms"] = terms
        quiet = state in (State.DISABLED, State.GATED, State.ACTIVE) and access == cursor.get("access")
        if quiet and name == repository:
            return Look(source=self.source, cursor=following, looked=True)
        revision = card.get("sha")
        observation = TermsObservation(
            source=self.source,
            state=state,
            valid_from=_since(card, cursor, now) if changed else now,
            observed_at=now,
            watcher="hub",
            declared=declared,
            exhibits=(_exhibit(answer),),
            revision=revision if isinstance(revision, str) else None,
            detail=detail,
        )
        documents = {sha256_hex(answer.body): answer.body}
        return Look(source=self.source, cursor=following, looked=True, observations=(observation,), documents=documents)

    def _forbidden(self, answer: Response, cursor: Cursor, now: datetime) -> Look:
        code = answer.headers.get("x-error-code", "")
        message = answer.headers.get("x-error-message", "")
        if code == "GatedRepo":
            return self._report(State.GATED, cursor, now, {"status": 403, "gated": True})
        if code == "DisabledRepo" or message.startswith("Access to this resource is disabled"):
            return self._report(State.DISABLED, cursor, now, {"status": 403})
        return self._unchanged(cursor, "the hub refuses access and does not say why (403)")

    def _missing(self, status: int, cursor: Cursor, now: datetime) -> Look:
        before = cursor.get("missing") or {"since": to_text(now), "times": 0}
        missing = {"since": before["since"], "times": before["times"] + 1}
        following = {**cursor, "missing": missing}
        since = to_time(missing["since"])
        if missing["times"] < self.confirmations or now - since < self.confirm_over:
            return self._unchanged(following, f"not found ({status}), {missing['times']} times since {missing['since']}")
        return self._report(State.DELETED, following, now, {"status": status, "confirmed": missing}, since=since)

    def _report(
        self,
        state: State,
        cursor: Cursor,
        now: datetime,
        detail: Mapping[str, Any],
        *,
        exhibits: tuple[Exhibit, ...] = (),
        since: datetime | None = None,
    ) -> Look:
        """A state that the status itself tells; reported once."""
        missing = cursor.get("missing") if state is State.DELETED else None
        following = {**cursor, "access": str(state), "missing": missing, "looked": to_text(now)}
        if cursor.get("access") == state:
            return Look(source=self.source, cursor=following, looked=True)
        observation = TermsObservation(
            source=self.source,
            state=state,
            valid_from=since or now,
            observed_at=now,
            watcher="hub",
            exhibits=exhibits,
            detail=detail,
        )
        return Look(source=self.source, cursor=following, looked=True, observations=(observation,))

    def _unchanged(self, cursor: Cursor, problem: str) -> Look:
        return Look(source=self.source, cursor=cursor, looked=False, problem=problem)


def _document(answer: Response) -> dict[str, Any] | None:
    """The repository's description, or None if the body is none."""
    import orjson

    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("id"), str) and _is_id(found["id"]) else None


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and ".." not in text and "--" not in text


def _metadata(card: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("cardData", "card_data"):
        if isinstance(found := card.get(key), dict):
            return found
    return {}


def _declared(card: Mapping[str, Any]) -> tuple[str | tuple[str, ...], bool]:
    """What the repository declares (empty text: nothing), and whether its card and its tags agree. Of two, both bind."""
    stated = _metadata(card).get("license")
    in_card = [str(part) for part in stated] if isinstance(stated, list) else [] if stated is None else [str(stated)]
    tags = card.get("tags")
    in_tags = (
        [t.removeprefix("license:") for t in tags if isinstance(t, str) and t.startswith("license:")]
        if isinstance(tags, list)
        else []
    )
    names = in_card or in_tags
    consistent = not (in_card and in_tags) or {n.casefold() for n in in_card} == {n.casefold() for n in in_tags}
    if not consistent:
        names = list(dict.fromkeys([*in_card, *in_tags]))
    if len(names) > MAX_SYMBOLS:
        names = [", ".join(names)]  # no expression: unknown as a whole, instead of known by its first part
    names = [name[: MAX_LENGTH + 1] for name in names]
    if len(names) > 1:
        return tuple(names), consistent
    return (names[0] if names else ""), consistent


def _named(card: Mapping[str, Any]) -> dict[str, str]:
    """Name and link of a license that has no tag of its own."""
    return {key: str(_metadata(card)[key])[:500] for key in _LICENSE_DETAILS if key in _metadata(card)}


def _terms_key(declared: str | tuple[str, ...], consistent: bool, card: Mapping[str, Any]) -> dict[str, Any]:
    """What a change of the declaration changes: its meaning where it has one, else its words."""
    parsed = parse_license(declared)
    words = (parsed.raw or "").strip().casefold()
    disputed = {} if consistent else {"disputed": True}
    return {"license": parsed.expression or f"unknown: {words}"[:2000], **disputed, **_named(card)}


def _since(card: Mapping[str, Any], cursor: Cursor, now: datetime) -> datetime:
    """The last modification, by which the change had happened; if it is not between the looks, the time of this look."""
    try:
        moment = to_time(str(card["lastModified"]))
        earliest = to_time(cursor["looked"])
    except (KeyError, InputDataError):
        return now
    return moment if earliest <= moment <= now else now


def _exhibit(answer: Response) -> Exhibit:
    return Exhibit(answer.url, sha256_hex(answer.body))
