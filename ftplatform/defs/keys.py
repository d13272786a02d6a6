"""Asset keys: the families of the graph and how a name in the store maps to a Dagster key."""

from enum import StrEnum

import dagster as dg


class Family(StrEnum):
    """First part of an asset key; also the group the UI shows it in."""

    LICENSE_LEDGER = "license_ledger"
    RAW = "raw"
    SYNTHETIC = "synthetic"
    FEEDBACK = "feedback"
    CORPORA = "corpora"
    SPLITS = "splits"
    EVAL_SETS = "eval_sets"
    RUBRICS = "rubrics"
    BASE_MODELS = "base_models"
    ADAPTERS = "adapters"
    EVAL_RESULTS = "eval_results"
    REWARD_LEDGERS = "reward_ledgers"
    SERVING = "serving"
    RELEASES = "releases"


LICENSE_LEDGER = str(Family.LICENSE_LEDGER)


def asset_name(family: Family, name: str) -> str:
    """Name of an asset in the store and on the command line, e.g. ``"raw/tickets"``."""
    return f"{family}/{name}"


def family_of(asset: str) -> Family:
    """The family of ``"raw/tickets"`` is `Family.RAW`."""
    return Family(asset.split("/", 1)[0])


def to_key(asset: str) -> dg.AssetKey:
    """``"raw/tickets"`` to ``AssetKey(["raw", "tickets"])``."""
    return dg.AssetKey(asset.split("/"))


def from_key(key: dg.AssetKey) -> str:
    """Inverse of `to_key`."""
    return "/".join(key.path)
