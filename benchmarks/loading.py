"""How long the code location takes to load: `python -m benchmarks.loading [--sources 50] [--rounds 5]`.

The contender is a fresh process that imports `ftplatform.definitions` and builds the repository, as every Dagster process does; the peer
is bare Dagster with as many empty assets and checks, the floor below which nothing built on it can go.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import alternate, report

_LOAD = "from ftplatform.definitions import defs; defs.get_repository_def()"
_COUNT = """
from ftplatform.definitions import defs
graph = defs.resolve_asset_graph()
print(len(list(graph.get_all_asset_keys())), len(list(graph.asset_check_keys)))
"""
_BARE = """
import dagster as dg
def asset(i):
    @dg.asset(key=["raw", f"s{i}"], group_name="raw", code_version="1")
    def a(): return None
    return a
def check(i, j):
    @dg.asset_check(asset=dg.AssetKey(["raw", f"s{i}"]), name=f"c{j}", blocking=True)
    def c(): return dg.AssetCheckResult(passed=True)
    return c
assets, checks = ASSETS, CHECKS
defs = dg.Definitions(assets=[asset(i) for i in range(assets)], asset_checks=[check(n % assets, n // assets) for n in range(checks)])
defs.get_repository_def()
"""


def project(folder: Path, sources: int) -> Path:
    """A project file with many sources in one dataset and one adapter; nothing it names has to exist to be loaded."""
    lines = ["name: many", "sources:"]
    lines += [
        f"  s{i}: {{path: data/s{i}.jsonl, license: {{declared: MIT, concluded: MIT, evidence: LICENSE}}}}" for i in range(sources)
    ]
    names = ", ".join(f"s{i}" for i in range(sources))
    lines += ["datasets:", f"  all: {{sources: [{names}]}}", "base_models:", "  base: {path: base}"]
    lines += ["eval_sets:", "  q: {path: data/q.jsonl}", "adapters:", "  one: {base: base, dataset: all}"]
    file = folder / "ftplatform.yaml"
    file.write_text("\n".join(lines) + "\n")
    (folder / "LICENSE").write_text("MIT\n")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", "--rows", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {"FTPLATFORM_PROJECT": str(project(Path(folder), options.sources))}

        counted = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _COUNT],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assets, checks = map(int, counted.stdout.split())
        bare = _BARE.replace("ASSETS", str(assets)).replace("CHECKS", str(checks))
        contenders = {
            "ftplatform": ([sys.executable, "-W", "ignore", "-c", _LOAD], environment),
            "dagster, as many empty assets": ([sys.executable, "-W", "ignore", "-c", bare], {}),
        }
        measured = alternate(contenders, options.rounds)
    facts = {"sources": options.sources, "assets": assets, "checks": checks}
    report("loading", measured, "ftplatform", ("dagster", "pydantic"), facts)


if __name__ == "__main__":
    main()
