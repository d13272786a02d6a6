"""Dagster resources: the store."""

import dagster as dg
from pydantic import Field

from ftplatform.store import Store


class StoreResource(dg.ConfigurableResource):
    """Opens the project's store. Credentials come from the environment of the process, never from this configuration."""

    url: str = Field(description="fsspec URL of the store: a folder or s3://bucket/prefix.")
    options: dict[str, str] = Field(default={}, description="Options of the store's filesystem, e.g. endpoint_url.")

    def open(self) -> Store:
        """The store, ready to read and write."""
        return Store.open(self.url, self.options)
