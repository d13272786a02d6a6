"""The Dagster instance a project uses: its own embedded one, unless DAGSTER_HOME names another.

The embedded instance keeps SQLite files in `.ftplatform/dagster` beside the project file, configured by the `dagster.yaml` shipped
with the package, so that the command line and the UI see one history.
"""

import os
from pathlib import Path

import dagster as dg

from ftplatform.errors import ProjectError


def _shipped_config() -> Path:
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "dagster.yaml", package.parent / "dagster.yaml"):
        if candidate.is_file():
            return candidate
    raise ProjectError("the packaged dagster.yaml is missing.", remedy="Reinstall ftplatform.")


def dagster_home(root: Path) -> Path:
    """Folder of the instance for the project at `root`; created and configured on first use."""
    if configured := os.environ.get("DAGSTER_HOME"):
        return Path(configured)
    home = root / ".ftplatform" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_bytes(_shipped_config().read_bytes())
    return home


def open_instance(root: Path) -> dg.DagsterInstance:
    """The instance for the project at `root`; sets DAGSTER_HOME for child processes."""
    home = dagster_home(root)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()
