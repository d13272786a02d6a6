"""A store under random use and random deaths, against a model that cannot fail."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ftplatform.errors import PublishConflict
from ftplatform.store import Head, Store
from ftplatform.store.backend import Backend, Entry, Stored
from ftplatform.store.urls import open_backend
from ftplatform_tests.unit.store.builders import build, record

T = TypeVar("T")

ASSETS = st.sampled_from(["raw/a", "splits/a", "adapters/x"])
CONTENTS = st.sampled_from(["", "one", "two", "three"])


class Killed(BaseException):
    """The process died here."""


class Mortal:
    """A backend whose process dies at one of its changes: before it takes effect, or after it did and before anyone knows."""

    def __init__(self, backend: Backend, changes_left: int, *, after: bool) -> None:
        self._backend = backend
        self._left = changes_left
        self._after = after

    @property
    def url(self) -> str:
        return self._backend.url

    def get(self, key: str) -> Stored | None:
        return self._backend.get(key)

    def stat(self, key: str) -> Entry | None:
        return self._backend.stat(key)

    def chunks(self, key: str) -> Iterator[bytes]:
        return self._backend.chunks(key)

    def local_path(self, key: str) -> Path | None:
        return self._backend.local_path(key)

    def ensure(self, key: str, source: Path | bytes, sha256: str) -> None:
        self._change(lambda: self._backend.ensure(key, source, sha256))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._change(lambda: self._backend.put_if_absent(key, data))

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        return self._change(lambda: self._backend.compare_and_swap(key, data, expected))

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._backend.list(prefix)

    def delete_if_older(self, key: str, cutoff: float) -> bool:
        return self._change(lambda: self._backend.delete_if_older(key, cutoff))

    def sweep(self, cutoff: float) -> int:
        return self._backend.sweep(cutoff)

    def _change(self, action: Callable[[], T]) -> T:
        self._left -= 1
        if self._left >= 0:
            return action()
        if self._after:
            action()
        raise Killed


class StoreMachine(RuleBasedStateMachine):
    """Operations on a store and on the model beside it; the invariants compare the two after every step."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.place = str(self.folder / "store") if self.url == "local" else f"memory://{uuid.uuid4().hex}"
        self.store = Store.open(self.place)
        self.heads: dict[str, tuple[int, str]] = {}
        self.stale: dict[str, Head | None] = {}
        self.begun: dict[str, list[str]] = {}
        self.recorded: dict[str, list[str]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def published(self, asset: str, content: str) -> tuple[int, str]:
        generation, current = self.heads.get(asset, (0, None))
        return (generation, content) if current == content else (generation + 1, content)

    @rule(asset=ASSETS, content=CONTENTS)
    def publish(self, asset: str, content: str) -> None:
        head = self.store.publish(build(self.store, asset, content))
        self.heads[asset] = self.published(asset, content)
        assert head.generation == self.heads[asset][0]

    @rule(asset=ASSETS)
    def remember_head(self, asset: str) -> None:
        self.stale[asset] = self.store.head(asset)

    @precondition(lambda self: self.stale)
    @rule(content=CONTENTS, data=st.data())
    def publish_expecting(self, content: str, data: st.DataObject) -> None:
        asset = data.draw(st.sampled_from(sorted(self.stale)))
        expected = self.stale[asset]
        stands = (expected.generation if expected else 0) == self.heads.get(asset, (0, ""))[0]
        try:
            self.store.publish(build(self.store, asset, content), expected=expected)
        except PublishConflict:
            assert not stands
        else:
            assert stands
            self.heads[asset] = self.published(asset, content)

    @rule(asset=ASSETS, content=CONTENTS, changes=st.integers(0, 3), after=st.booleans())
    def die_while_publishing(self, asset: str, content: str, changes: int, after: bool) -> None:
        dying = Store(Mortal(open_backend(self.place, {}), changes, after=after), self.folder / "cache")
        new = self.published(asset, content)
        try:
            dying.publish(build(dying, asset, content))
        except Killed:
            # Nothing between: the old version or the new one.
            self.store = Store.open(self.place)
            head = self.store.head(asset)
            if head is not None and head.generation == new[0]:
                self.heads[asset] = new
            return
        self.heads[asset] = new

    @precondition(lambda self: self.heads)
    @rule(run=st.integers(0, 9), data=st.data())
    def begin(self, run: int, data: st.DataObject) -> None:
        asset = data.draw(st.sampled_from(sorted(self.heads)))
        self.store.begin_evaluation(asset, "check", judged={asset: self.store.current(asset).digest}, run_id=f"r{run}")
        self.begun[asset] = [other for other in self.begun.get(asset, []) if other != f"r{run}"] + [f"r{run}"]

    @precondition(lambda self: self.heads)
    @rule(run=st.integers(0, 9), data=st.data())
    def record(self, run: int, data: st.DataObject) -> None:
        asset = data.draw(st.sampled_from(sorted(self.heads)))
        record(self.store, asset, "check", self.store.current(asset), f"r{run}")
        self.recorded.setdefault(asset, []).append(f"r{run}")
        begun = self.begun.get(asset, [])
        self.begun[asset] = begun[begun.index(f"r{run}") + 1 :] if f"r{run}" in begun else begun

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.place)

    @rule()
    def collect(self) -> None:
        self.store.collect_garbage(timedelta(0))

    @rule(changes=st.integers(0, 5), after=st.booleans())
    def die_while_collecting(self, changes: int, after: bool) -> None:
        dying = Store(Mortal(open_backend(self.place, {}), changes, after=after), self.folder / "cache")
        try:
            dying.collect_garbage(timedelta(0))
        except Killed:
            self.store = Store.open(self.place)

    @invariant()
    def heads_are_as_published(self) -> None:
        assert self.store.assets() == sorted(self.heads)
        for asset, (generation, content) in self.heads.items():
            head = self.store.head(asset)
            assert head is not None
            assert head.generation == generation
            current = self.store.current(asset)
            assert current.digest == head.snapshot
            assert current.read_bytes("content.txt") == content.encode()

    @invariant()
    def evaluations_are_as_recorded(self) -> None:
        for asset in self.heads:
            latest = self.store.latest_evaluation(asset, "check")
            if self.begun.get(asset):
                assert latest is not None
                assert (latest.state, latest.run_id) == ("running", self.begun[asset][-1])
            elif self.recorded.get(asset):
                assert latest is not None
                assert (latest.state, latest.run_id) == ("done", self.recorded[asset][-1])
            else:
                assert latest is None
            history = self.store.evaluation_history(asset, "check", None)
            assert [item.run_id for item in history] == self.recorded.get(asset, [])[::-1]


@pytest.mark.parametrize(("url", "examples"), [("local", 12), ("memory", 40)])
def test_store_agrees_with_the_model(url: str, examples: int) -> None:
    machine = type("Machine", (StoreMachine,), {"url": url})
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    case().runTest()
