"""License files of real git repositories, and the contradictions between them."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ftplatform.canonical import sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.expressions import parse_license
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.rights import Use
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.licensing.watchers import addresses
from ftplatform.licensing.watchers import git as module
from ftplatform.licensing.watchers.addresses import UnsafeAddress
from ftplatform.licensing.watchers.git import GitWatcher
from ftplatform_tests.unit.licensing.watchers.git_server import git_http_server

MIT = "MIT License\n\nCopyright (c) 2023 Example Authors\n\nPermission is hereby granted, free of charge, to any person.\n"
NC = "Attribution-NonCommercial 4.0 International\n\nYou may not use the material for commercial purposes.\n"
APACHE = "Apache License\nVersion 2.0, January 2004\n\nGrant of Copyright License.\n"


class Repository:
    """A git repository one can commit to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "uploadpack.allowFilter", "true")

    def git(self, *arguments: str, date: str = "2026-11-01T00:00:00Z") -> str:
        identity = {f"GIT_{who}_{what}": f"a@b.{who}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {
            **os.environ,
            **identity,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, files: dict[str, str | None], date: str = "2026-11-01T00:00:00Z") -> str:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change", date=date)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "upstream")


def watcher(repository: Repository, **options: object) -> GitWatcher:
    return GitWatcher("raw/x", repository.folder, **options)  # type: ignore[arg-type]


def only(observations: tuple[TermsObservation, ...]) -> TermsObservation:
    assert len(observations) == 1
    return observations[0]


def test_first_look_reports_what_the_files_say(repository: Repository, now: datetime) -> None:
    head = repository.commit(
        {
            "LICENSE": MIT,
            "README.md": "# Data\n\nRows.\n",
            "data/rows.csv": "a,b\n",
            "licenses.py": "x = 1\n",
            "license_plates.csv": "a\n",
        }
    )
    look = watcher(repository).look(None, now)
    seen = only(look.observations)
    assert (look.looked, seen.state, seen.declared, seen.revision) == (True, State.ACTIVE, ("MIT",), head)
    assert {e.uri for e in seen.exhibits} == {"LICENSE", "README.md"}
    assert look.documents[sha256_hex(MIT.encode())] == MIT.encode()


def test_repository_without_license_is_unknown(repository: Repository, now: datetime) -> None:
    repository.commit({"data.csv": "a\n"})
    seen = only(watcher(repository).look(None, now).observations)
    assert (seen.state, seen.declared) == (State.UNKNOWN, "")
    assert only(watcher(repository).look(None, now, concluded=True).observations).state is State.ACTIVE


def test_new_year_and_line_breaks_raise_nothing_although_the_blob_changed(repository: Repository, now: datetime) -> None:
    """ADV: comparing blob hashes, as a first attempt would, raises an alarm every January."""
    repository.commit({"LICENSE": MIT, "README.md": "# Data\n\nRows.\n\n## License\n\nMIT\n"})
    before = repository.git("rev-parse", "HEAD:LICENSE")
    first = watcher(repository).look(None, now)
    edited = MIT.replace("2023", "2023-2026").replace("granted, free", "granted,\nfree").replace("MIT License", "# MIT LICENSE")
    repository.commit({"LICENSE": edited, "README.md": "# Data\n\nMore rows.\n\n## LICENSE\n\nMIT\n"})
    assert repository.git("rev-parse", "HEAD:LICENSE") != before  # the naive comparison errs
    second = watcher(repository).look(first.cursor, now + timedelta(days=1))
    assert (second.looked, second.observations) == (True, ())
    assert second.cursor["revision"] == repository.git("rev-parse", "HEAD")


def test_changed_words_are_a_relicensing_with_the_clauses_that_changed(repository: Repository, now: datetime) -> None:
    repository.commit({"LICENSE": MIT})
    first = watcher(repository).look(None, now)
    changed = MIT.replace("to any person.", "to any person for research purposes only.")
    repository.commit({"LICENSE": changed}, date="2026-11-22T20:00:00Z")
    later = now + timedelta(days=1)
    seen = only(watcher(repository).look(first.cursor, later, archive=first.documents.get).observations)
    # MIT by its heading, research only by its words: that contradicts itself as well.
    assert seen.state is State.DISPUTED
    comparison = seen.detail["changes"]["LICENSE"]["comparison"]
    assert comparison["appeared"][0]["kind"] == "research only"
    assert "{+for research purposes only.+}" in comparison["shown"][0]["marked"]
    assert seen.valid_from == datetime(2026, 11, 22, 20, tzinfo=UTC), "the commit's time lies between the looks"


def test_license_exchanged_removed_or_added_is_a_relicensing(repository: Repository, now: datetime) -> None:
    repository.commit({"LICENSE": MIT})
    look = watcher(repository).look(None, now)
    for files, declared, kinds in (
        ({"LICENSE": APACHE}, ("Apache-2.0",), {"LICENSE": "changed"}),
        ({"LICENSE": None}, "", {"LICENSE": "removed"}),
        ({"COPYING": NC}, ("CC-BY-NC-4.0",), {"COPYING": "added"}),
    ):
        repository.commit(files)  # type: ignore[arg-type]
        now += timedelta(days=1)
        look = watcher(repository).look(look.cursor, now)
        seen = only(look.observations)
        assert (seen.state, seen.declared) == (State.RELICENSED, declared)
        assert {path: change["kind"] for path, change in seen.detail["changes"].items()} == kinds
        assert watcher(repository).look(look.cursor, now).observations == (), "reported once"


def test_commit_time_outside_of_the_looks_is_not_believed(repository: Repository, now: datetime) -> None:
    repository.commit({"LICENSE": MIT})
    first = watcher(repository).look(None, now)
    repository.commit({"LICENSE": APACHE}, date="2001-01-01T00:00:00Z")
    later = now + timedelta(days=1)
    assert only(watcher(repository).look(first.cursor, later).observations).valid_from == later


def test_files_that_contradict_each_other_are_disputed_and_the_strictest_is_named(repository: Repository, now: datetime) -> None:
    """The case of stanford_alpaca: code under Apache, data noncommercial, README research only (LIC-08)."""
    readme = "# Alpaca\n\nThe data is intended and licensed for research use only.\n\n## Usage\n\nRun it.\n"
    repository.commit({"LICENSE": APACHE, "DATA_LICENSE": NC, "README.md": readme})
    look = watcher(repository).look(None, now)
    seen = only(look.observations)
    assert seen.state is State.DISPUTED
    assert seen.declared == ("Apache-2.0", "CC-BY-NC-4.0")
    strictest = seen.detail["strictest"]
    assert set(strictest["commercial_model"]) == {
        "DATA_LICENSE: CC-BY-NC-4.0",
        "DATA_LICENSE: non-commercial",
        "README.md: research only",
    }
    # What the ledger gets already denies commercial use, before anybody concluded.
    assert not default_policy().rights(parse_license(seen.declared))[Use.COMMERCIAL_MODEL].usable
    # ADV: the first license file found, which is what most tools report, allows it.
    assert default_policy().rights(parse_license("Apache-2.0"))[Use.COMMERCIAL_MODEL].usable
    # It is still disputed when something else changes.
    repository.commit({"README.md": readme + "\n## License\n\nSee the files.\n"})
    assert only(watcher(repository).look(look.cursor, now).observations).state is State.DISPUTED


def test_choice_offered_by_file_names_is_no_dispute(repository: Repository, now: datetime) -> None:
    repository.commit({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE})
    assert only(watcher(repository).look(None, now).observations).state is State.ACTIVE
    repository.commit({"LICENSE-MIT": None, "LICENSE-APACHE": None, "LICENSE-CODE": MIT, "LICENSE-DATA": NC})
    assert only(watcher(repository).look(None, now).observations).state is State.DISPUTED


def test_readme_counts_by_its_license_passages_only(repository: Repository, now: datetime) -> None:
    text = "# Data\n\n{intro}\n\nLicense\n-------\n\n{terms}\n\nNews\n----\n\n{news}\n"
    repository.commit({"README.rst": text.format(intro="Rows.", terms="Free for all.", news="None.")})
    look = watcher(repository).look(None, now)
    repository.commit({"README.rst": text.format(intro="Many rows.", terms="Free for all.", news="A paper!")})
    look = watcher(repository).look(look.cursor, now)
    assert look.observations == ()
    repository.commit({"README.rst": text.format(intro="Many rows.", terms="Free for members.", news="A paper!")})
    look = watcher(repository).look(look.cursor, now)
    assert only(look.observations).state is State.RELICENSED
    repository.commit({"README.rst": text.format(intro="Rows. No commercial use.", terms="Free for members.", news="A paper!")})
    assert only(watcher(repository).look(look.cursor, now).observations).state is State.RELICENSED


def test_license_line_of_front_matter_counts(repository: Repository, now: datetime) -> None:
    repository.commit({"README.md": "---\nlanguage: en\nlicense: cc-by-4.0\n---\n# Data\n"})
    look = watcher(repository).look(None, now)
    assert only(look.observations).declared == ("CC-BY-4.0",)
    repository.commit({"README.md": "---\nlanguage: de\nlicense: cc-by-nc-4.0\n---\n# Data\n"})
    seen = only(watcher(repository).look(look.cursor, now).observations)
    assert (seen.state, seen.declared) == (State.RELICENSED, ("CC-BY-NC-4.0",))


def test_nothing_of_a_hostile_repository_runs(repository: Repository, now: datetime, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    script = f"#!/bin/sh\ntouch {marker}\n"
    for hook in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc"):
        path = repository.folder / ".git" / "hooks" / hook
        path.write_text(script)
        path.chmod(0o755)
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (repository.folder / "LICENSE.link").symlink_to(outside)
    repository.commit(
        {
            "LICENSE": MIT,
            ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch ' + str(marker) + '"\n',
            ".gitattributes": "* filter=evil\n",
            ".lfsconfig": "[lfs]\n\turl = http://169.254.169.254/\n",
        }
    )
    marker.unlink(missing_ok=True)
    seen = only(watcher(repository).look(None, now).observations)
    assert {e.uri for e in seen.exhibits} == {"LICENSE"}
    assert not marker.exists()


@pytest.mark.parametrize("server_filters", [True, False])
def test_blobs_that_are_no_license_files_stay_where_they_are(
    repository: Repository, now: datetime, server_filters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a server that filters, the 8 MiB of data are not fetched; without, they are, and the answer is the same."""
    repository.git("config", "uploadpack.allowFilter", str(server_filters).lower())
    (repository.folder / "data.bin").write_bytes(os.urandom(8 << 20))
    repository.commit({"LICENSE": MIT})
    sizes: list[int] = []
    read = module.GitWatcher._read

    def measured(self: GitWatcher, git: module._Git) -> object:
        found = read(self, git)
        sizes.append(sum(path.stat().st_size for path in git.folder.rglob("*") if path.is_file()))
        return found

    monkeypatch.setattr(module.GitWatcher, "_read", measured)
    assert only(watcher(repository).look(None, now).observations).declared == ("MIT",)
    assert (sizes[0] < 1 << 20) is server_filters


def test_license_file_too_large_for_terms_is_a_problem(repository: Repository, now: datetime) -> None:
    repository.commit({"LICENSE": "x" * (4 * 1024 * 1024 + 1)})
    look = watcher(repository).look(None, now)
    assert (look.looked, look.observations) == (False, ())
    assert "too many for terms" in str(look.problem)


def test_unreachable_repository_and_missing_branch_change_nothing(repository: Repository, now: datetime, tmp_path: Path) -> None:
    repository.commit({"LICENSE": MIT})
    cursor = watcher(repository).look(None, now).cursor
    gone = watcher(repository, ref="refs/heads/gone").look(cursor, now)
    assert (gone.looked, gone.observations, gone.cursor) == (False, (), cursor)
    assert "refs/heads/gone" in str(gone.problem)
    (repository.folder / ".git").rename(tmp_path / "moved")
    broken = watcher(repository).look(cursor, now)
    assert (broken.looked, broken.observations, broken.cursor) == (False, (), cursor)


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch /tmp/x", "main", "refs/heads/../x", "refs/heads/a b", "-x", "refs/heads/x.lock"]
)
def test_refs_that_could_be_options_are_refused(repository: Repository, ref: str) -> None:
    with pytest.raises(InputDataError):
        watcher(repository, ref=ref)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch%20x ://",
        "ssh://git@example.com/x",
        "git://example.com/x",
        "file:///tmp/x",
        "http://example.com/x",
        "https://user:token@example.com/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://[64:ff9b::7f00:1]/x",
    ],
)
def test_hostile_urls_are_refused(url: str, now: datetime) -> None:
    with pytest.raises((UnsafeAddress, InputDataError)):
        GitWatcher("raw/x", url).look(None, now)


def test_remote_repository_over_http_at_the_checked_address(
    repository: Repository, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name exists for our resolver only: git connects to the address that was checked, because it is told to."""
    repository.commit({"LICENSE": MIT})
    monkeypatch.setattr(addresses, "resolve", lambda *_: ["127.0.0.1"])
    with git_http_server(repository.folder) as port:
        remote = GitWatcher("raw/x", f"http://mirror.invalid:{port}/upstream", allow={f"mirror.invalid:{port}"}, timeout=20)
        look = remote.look(None, now)
    assert look.problem is None
    assert only(look.observations).declared == ("MIT",)
    after = remote.look(look.cursor, now)
    assert (after.looked, after.observations, after.cursor) == (False, (), look.cursor), "a server that is down says nothing"
