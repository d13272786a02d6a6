"""Everything the factories need to know about one project: its file, the graph's shape, and all its checks."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ftplatform.defs.checks import Check
from ftplatform.defs.keys import Family
from ftplatform.defs.ledger import LicenseState, license_state
from ftplatform.defs.lineage import Lineage
from ftplatform.defs.terms import project_policy, project_terms
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.terms import SourceTerms
from ftplatform.project.loading import LoadedProject
from ftplatform.project.models import Project
from ftplatform.store import Store


class Plan:
    """One loaded project with its lineage and checks; what `build_defs`, the command line and `status` share."""

    def __init__(self, loaded: LoadedProject) -> None:
        self.loaded = loaded
        self.lineage = Lineage(loaded.project)

    @property
    def project(self) -> Project:
        """The validated content of the file."""
        return self.loaded.project

    @property
    def root(self) -> Path:
        """Folder of the file; relative paths in it start here."""
        return self.loaded.root

    @property
    def store_url(self) -> str:
        """The store's URL, a relative folder resolved against the project's root."""
        url = self.project.store
        return url if "://" in url else str((self.root / url).resolve())

    @cached_property
    def declared_terms(self) -> Mapping[str, SourceTerms]:
        """Terms of everything that carries a license, by the names rows use, as the project file declares them now."""
        return project_terms(self.loaded)

    @cached_property
    def terms(self) -> Mapping[str, SourceTerms]:
        """The same as they stand by the license ledger now."""
        return self._license_state.terms

    @property
    def removals(self) -> Mapping[str, Sequence[str]]:
        """Notices that an adapter has to be free of, by adapter."""
        return self._license_state.removals

    @cached_property
    def _license_state(self) -> LicenseState:
        return license_state(self.loaded, self.declared_terms, self.open_store())

    def open_store(self) -> Store:
        """The project's store."""
        return Store.open(self.store_url, self.project.store_options)

    @cached_property
    def policy(self) -> Policy:
        """The license policy in force."""
        return project_policy(self.loaded)

    @cached_property
    def checks(self) -> Sequence[Check]:
        """Every check of the project, in the order of the graph."""
        from ftplatform.defs.asset_checks.catalog import all_checks

        order = {asset: position for position, asset in enumerate(self.lineage.assets)}
        return sorted(all_checks(self), key=lambda check: order[check.asset])

    def used_terms(self, asset: str) -> list[SourceTerms]:
        """Terms of everything `asset` is made from, teachers included."""
        ancestors = self.lineage.ancestors(asset)
        used = {name: terms for name, terms in self.terms.items() if name in ancestors}
        teachers = {p: self.terms[p] for terms in used.values() for p in terms.derived_from if p in self.terms}
        return list({**used, **teachers}.values())

    def is_trained_on(self, asset: str) -> bool:
        """Whether an adapter is made from `asset`; if not, it is only compared with."""
        return any(a.startswith(f"{Family.ADAPTERS}/") for a in self.lineage.descendants([asset]))

    def checks_of(self, assets: Sequence[str]) -> list[Check]:
        """Checks on any of `assets`."""
        wanted = set(assets)
        return [check for check in self.checks if check.asset in wanted]

    def gates_of(self, asset: str) -> list[Check]:
        """Blocking checks on everything `asset` is built from, directly or not."""
        return [check for check in self.checks_of(self.lineage.ancestors(asset)) if check.blocking and check.severity == "error"]

    def checks_looking_at(self, assets: Sequence[str]) -> list[Check]:
        """Checks on, or comparing with, any of `assets`: those whose evaluations a change of these assets makes stale."""
        wanted = set(assets)
        return [check for check in self.checks if check.asset in wanted or wanted & set(check.looks_at)]
