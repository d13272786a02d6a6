"""A trained adapter for every test that only reads it."""

from __future__ import annotations

import pytest

from ftplatform.store import Snapshot, Store
from ftplatform_tests.unit.closure.trained import trained_adapter


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one trained adapter and everything upstream."""
    folder = tmp_path_factory.mktemp("trained")
    store = Store.open(str(folder / "store"))
    trained_adapter(store, folder / "work")
    return store


@pytest.fixture(scope="session")
def adapter(trained_store: Store) -> Snapshot:
    """The adapter in it."""
    return trained_store.current("adapters/support")
