"""Terms pages of a web site, and what the site reserves against machines.

Changed words of a terms page concern what we hold and what we will fetch: `RELICENSED`, to be reviewed. A new reservation (robots.txt and
relatives) concerns fetching: `PROSPECTIVE`, it binds what is acquired from now on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from ftplatform.errors import InputDataError
from ftplatform.licensing.evidence import Evidence, find_clauses, find_statements, normalized_text_digest, read_evidence
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.licensing.text_changes import compare_texts
from ftplatform.licensing.watchers.addresses import shown_url
from ftplatform.licensing.watchers.crawl_rules import (
    MAX_ROBOTS_BYTES,
    header_reservations,
    robots_reservations,
    tdmrep_reservations,
)
from ftplatform.licensing.watchers.fetch import Fetcher, FetchFailed, Response
from ftplatform.licensing.watchers.look import Archive, Cursor, Look, exhibit, no_archive
from ftplatform.licensing.watchers.page_text import MAX_HTML_BYTES, read_page

_RULE_FILES = ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")


class UrlTermsWatcher:
    """Watches the terms of one web source.

    Args:
        source: name of the source in the project.
        terms: URLs of its terms pages.
        site: origin the data was fetched from (``https://host``), whose robots.txt and so on count; None: only `terms`.
        paths: URL paths of the data on that site.
        agent: product token of our crawler in robots.txt.
        fetcher: HTTP; see `fetch.HttpFetcher`.

    Raises:
        InputDataError: if there is nothing to watch.
    """

    def __init__(
        self,
        source: str,
        terms: Sequence[str],
        fetcher: Fetcher,
        *,
        site: str | None = None,
        paths: Sequence[str] = ("/",),
        agent: str = "ftplatform",
    ) -> None:
        if not terms and site is None:
            raise InputDataError(f"{source} names neither terms pages nor a site to watch.", remedy="Give a URL.")
        self.source = source
        self.terms = tuple(terms)
        self.site = site.rstrip("/") if site else None
        self.paths = tuple(paths)
        self.agent = agent
        self.fetcher = fetcher

    def look(self, cursor: Cursor | None, now: datetime, archive: Archive = no_archive) -> Look:
        """Fetch everything once. If any part cannot be read, nothing is concluded and nothing is remembered of this look.

        Raises:
            UnsafeAddress: if a URL leads into a private network.
        """
        cursor = cursor or {}
        seen = _Seen()
        try:
            for url in self.terms:
                self._read_terms(url, cursor, seen, archive)
            if self.site is not None:
                self._read_rules(self.site, cursor, seen)
        except FetchFailed as error:
            return Look(source=self.source, cursor=cursor, looked=False, problem=error.message)
        return self._judge(seen, cursor, now)

    def _read_terms(self, url: str, cursor: Cursor, seen: _Seen, archive: Archive) -> None:
        before = cursor.get("pages", {}).get(url)
        answer = self.fetcher.fetch(url, etag=before["etag"] if before else None)
        if answer.status == 304 and before:
            seen.pages[url] = before
            seen.reservations |= set(before["reservations"])
            return
        if answer.status != 200 or not answer.body.strip():
            raise FetchFailed(
                f"{shown_url(url)} answers {answer.status} with {len(answer.body):,} bytes.", remedy="Check the address."
            )
        evidence, text, reserved = _read_document(url, answer.body, answer.headers)
        seen.pages[url] = {
            "identity": evidence.identity,
            "sha256": evidence.sha256,
            "type": answer.headers.get("content-type", "")[:100],
            "etag": answer.etag,
            "reservations": sorted(reserved),
        }
        seen.reservations |= reserved
        seen.evidence.append(evidence)
        seen.documents[evidence.sha256] = answer.body
        if before and evidence.identity != before["identity"]:
            seen.changes[url] = {"kind": "changed"}
            if text and (old := archive(before["sha256"])) is not None:
                _, old_text, _ = _read_document(url, old, {"content-type": before["type"]})
                seen.changes[url]["comparison"] = compare_texts(old_text, text).to_record()

    def _read_rules(self, site: str, cursor: Cursor, seen: _Seen) -> None:
        for path in _RULE_FILES:
            answer = self.fetcher.fetch(urljoin(site + "/", path))
            if answer.status == 200 and not _is_html(answer.headers, answer.body):
                seen.reservations |= self._reserved(path, answer)
                seen.evidence.append(read_evidence(site + path, answer.body))
                seen.documents[seen.evidence[-1].sha256] = answer.body
            elif answer.status == 429 or answer.status >= 500:
                raise FetchFailed(f"{site}{path} answers {answer.status}.", remedy="Try again.")
            # Any other answer means there is no such file (RFC 9309 section 2.3.1.3), as does a web page served in its place.
        for path in self.paths:
            answer = self.fetcher.fetch(site + path, headers_only=True)
            if answer.status == 429 or (answer.status >= 500 and answer.status != 501):
                raise FetchFailed(f"{shown_url(site + path)} answers {answer.status}.", remedy="Try again.")
            if answer.status < 400:
                seen.reservations |= header_reservations(answer.headers, path)
            else:  # the headers of an error page release nothing
                seen.reservations |= {said for said in cursor.get("reservations", ()) if said.startswith(f"{path}: ")}

    def _reserved(self, path: str, answer: Response) -> set[str]:
        text = answer.body[:MAX_ROBOTS_BYTES].decode("utf-8-sig", errors="replace")
        if not path.endswith(".json"):
            return robots_reservations(path.lstrip("/"), text, self.agent, self.paths)
        try:
            return tdmrep_reservations(text, self.paths)
        except ValueError as error:
            raise FetchFailed(f"{self.site}{path} is not readable ({str(error)[:100]}).", remedy="Look at it yourself.") from error

    def _judge(self, seen: _Seen, cursor: Cursor, now: datetime) -> Look:
        first = "pages" not in cursor
        before = set(cursor.get("reservations", ()))
        added, removed = sorted(seen.reservations - before), sorted(before - seen.reservations)
        following: dict[str, Any] = {**cursor, "pages": seen.pages, "reservations": sorted(seen.reservations)}
        if not (first or seen.changes or added or removed):
            return Look(source=self.source, cursor=following, looked=True)
        detail: dict[str, Any] = {"reservations": sorted(seen.reservations)}
        detail |= {name: value for name, value in (("reserved", added), ("released", removed), ("changes", seen.changes)) if value}
        # Both can happen at once, and a conclusion about one is none about the other.
        states = [State.RELICENSED] if seen.changes else []
        if first or added or removed:
            states.append(State.PROSPECTIVE if seen.reservations else State.ACTIVE)
        observations = tuple(
            TermsObservation(
                source=self.source,
                state=state,
                valid_from=now,
                observed_at=now,
                watcher="url_terms",
                exhibits=tuple(exhibit(evidence) for evidence in seen.evidence),
                detail=detail,
            )
            for state in states
        )
        return Look(source=self.source, cursor=following, looked=True, observations=observations, documents=seen.documents)


@dataclass(slots=True)
class _Seen:
    """What one look gathers."""

    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    reservations: set[str] = field(default_factory=set)
    evidence: list[Evidence] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


def _is_html(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "") or body.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))


def _read_document(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Evidence, str, set[str]]:
    """Evidence (by the visible words of a web page), its text (empty if it is none), and reservations in headers and `<meta>`."""
    evidence = read_evidence(url, body)
    reserved = header_reservations(headers)
    if evidence.text_digest is None:
        return evidence, "", reserved
    text = body.decode("utf-8", errors="replace")
    if _is_html(headers, body):
        if len(body) > MAX_HTML_BYTES:
            raise FetchFailed(
                f"{shown_url(url)} has {len(body):,} bytes of HTML.", remedy="Give the address of the terms themselves."
            )
        page = read_page(text)
        text, reserved = page.text, reserved | header_reservations(page.meta, "page")
        if not text:
            raise FetchFailed(
                f"{shown_url(url)} shows no text without scripts.", remedy="Keep a copy of the terms and watch that file."
            )
        evidence = Evidence(url, evidence.sha256, normalized_text_digest(text), find_clauses(text), find_statements(text))
    return evidence, text, reserved
