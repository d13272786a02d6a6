"""The policy file: what it says, how it is read, and that it agrees with what others say about the same licenses."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

from ftplatform.errors import ProjectError
from ftplatform.licensing.expressions import known_license_keys, parse_license
from ftplatform.licensing.policy import MAX_BYTES, Policy, default_policy, load_policy
from ftplatform.licensing.rights import ALL_UNKNOWN, Level, Use

SMALL = """\
schema: ftplatform.license-policy/1
name: small
version: 1.10
obligations:
  credit: Name them.
rules:
  - name: all
    licenses: [MIT, "CC-BY-4.*"]
    why: because
    train: allow
    evaluate: allow
    commercial_model: [credit]
    redistribute_data: deny
    redistribute_weights: unknown
    teacher: deny
"""


def level(policy: Policy, license: str, use: Use) -> Level:
    return policy.rights(parse_license(license))[use].level


def test_a_small_policy() -> None:
    policy = load_policy(SMALL.encode(), source="small.yaml")
    assert policy.version == "1.10"
    rights = policy.rights(parse_license("cc-by-4.0"))
    assert rights[Use.COMMERCIAL_MODEL].obligations == ("credit",)
    assert rights[Use.REDISTRIBUTE_WEIGHTS].level is Level.UNKNOWN
    assert rights[Use.TEACHER].level is Level.DENY
    assert policy.rights(parse_license("Apache-2.0")) == ALL_UNKNOWN
    assert policy.explain("credit") == "Name them."


def test_comments_and_layout_do_not_change_the_hash_but_content_does() -> None:
    base = load_policy(SMALL.encode(), source="a")
    assert load_policy(("# a comment\n" + SMALL.replace("[credit]", "\n      - credit")).encode(), source="b").digest == base.digest
    for before, after in [
        ("name: small", "name: other"),
        ("train: allow", "train: deny"),
        ("Name them.", "Name us."),
        ("because", "why"),
    ]:
        assert load_policy(SMALL.replace(before, after).encode(), source="c").digest != base.digest, before


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    teacher: deny\n", "", r":7: rules\[0\] lacks teacher"),
        ("train: allow", "trane: allow", r":10: rules\[0\]: unknown key 'trane'.*'train'"),
        ("train: allow", "train: yes", r":10: rules\[0\].train: 'yes'.*allow, deny, unknown"),
        ("[credit]", "[credits]", r":12: .*'credits' is not declared.*Did you mean 'credit'"),
        ("[credit]", "[]", r":12: .*lists no obligation"),
        ("[MIT,", "[MTI,", r":8: .*'MTI' matches no known license"),
        ("[MIT,", "[CC-BI-*,", r":8: .*matches no known license"),
        ("name: small", "name: small\nname: twice", r":3: the policy: 'name' appears twice"),
        ("/1", "/2", r"unknown schema"),
        ("name: small", "name: &a small", r"anchors and aliases"),
        ("because", "!!python/object/apply:os.system [id]", r"tag .* is not allowed"),
        ("because", "{a: b}", r"is not text"),
        ("because", "''", r"is not text"),
        ("rules:", "rules: [", r"not YAML"),
        ("train: allow", "train: *x", r"anchors and aliases"),
    ],
)
def test_errors_name_file_line_and_key(before: str, after: str, message: str) -> None:
    assert before in SMALL
    with pytest.raises(ProjectError, match=message) as caught:
        load_policy(SMALL.replace(before, after, 1).encode(), source="small.yaml")
    assert caught.value.message.startswith("small.yaml:")
    assert caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"\xff\xfe", b"- a\n", b"a" * (MAX_BYTES + 1), b"[" * 5000])
def test_what_is_no_policy_is_refused(data: bytes) -> None:
    with pytest.raises(ProjectError):
        load_policy(data, source="bad.yaml")


def test_unknown_is_never_allowed() -> None:
    policy = default_policy()
    for license in ["other", "", "LicenseRef-Somebody", "Apache 2.0", "creativeml-openrail-m", None]:
        assert policy.rights(parse_license(license)) == ALL_UNKNOWN, license


@pytest.mark.parametrize(
    ("license", "use", "expected"),
    [
        ("MIT", Use.COMMERCIAL_MODEL, Level.ALLOW),
        ("CC-BY-4.0", Use.COMMERCIAL_MODEL, Level.ALLOW_IF),
        ("CC-BY-NC-4.0", Use.COMMERCIAL_MODEL, Level.DENY),
        ("CC-BY-NC-4.0", Use.TRAIN, Level.ALLOW),
        ("MIT OR CC-BY-NC-4.0", Use.COMMERCIAL_MODEL, Level.ALLOW),
        ("MIT AND CC-BY-NC-4.0", Use.COMMERCIAL_MODEL, Level.DENY),
        ("CC-BY-ND-4.0", Use.REDISTRIBUTE_WEIGHTS, Level.DENY),
        ("odc-by", Use.REDISTRIBUTE_DATA, Level.ALLOW_IF),
        ("odbl", Use.REDISTRIBUTE_DATA, Level.ALLOW_IF),
        ("cdla-permissive-2.0", Use.REDISTRIBUTE_WEIGHTS, Level.ALLOW),
        ("llama2", Use.TEACHER, Level.DENY),
        ("llama3.1", Use.TEACHER, Level.ALLOW_IF),
        ("gemma", Use.COMMERCIAL_MODEL, Level.ALLOW_IF),
        ("LicenseRef-Proprietary-Own", Use.COMMERCIAL_MODEL, Level.ALLOW),
        ("LicenseRef-Acme-Own", Use.REDISTRIBUTE_WEIGHTS, Level.ALLOW),
        ("LicenseRef-Proprietary", Use.TRAIN, Level.UNKNOWN),
        ("GPL-3.0-or-later", Use.REDISTRIBUTE_WEIGHTS, Level.ALLOW_IF),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", Use.TRAIN, Level.ALLOW),
    ],
)
def test_default_policy(license: str, use: Use, expected: Level) -> None:
    assert level(default_policy(), license, use) is expected


def test_every_noncommercial_or_noderivatives_creative_commons_license_denies_commercial_models() -> None:
    policy = default_policy()
    restricted = [key for key in known_license_keys() if key.startswith("CC-BY-") and ("-NC" in key or "-ND" in key)]
    assert len(restricted) > 25
    assert {key for key in restricted if policy.rights_of_key(key)[Use.COMMERCIAL_MODEL].level is not Level.DENY} == set()


def test_share_alike_always_brings_attribution() -> None:
    policy = default_policy()
    for key in known_license_keys():
        if key.startswith(("CC-BY-SA-", "CC-BY-NC-SA-")):
            assert {"attribution", "share_alike"} <= set(policy.rights_of_key(key)[Use.REDISTRIBUTE_DATA].obligations), key


def _choosealicense(shared_data: Path) -> list[dict]:
    with gzip.open(shared_data / "choosealicense" / "licenses_frontmatter_and_text.jsonl.gz", "rt") as lines:
        return [yaml.safe_load(json.loads(line)["text"].split("---\n", 2)[1]) for line in lines]


def test_agreement_with_choosealicense(shared_data: Path) -> None:
    """47 licenses with machine-readable permissions: where our policy knows the license, commercial use and distribution agree."""
    policy = default_policy()
    compared = 0
    for entry in _choosealicense(shared_data):
        rights = policy.rights(parse_license(entry["spdx-id"]))
        if rights == ALL_UNKNOWN:
            continue
        compared += 1
        assert rights[Use.COMMERCIAL_MODEL].usable == ("commercial-use" in entry["permissions"]), entry["spdx-id"]
        assert rights[Use.REDISTRIBUTE_DATA].usable == ("distribution" in entry["permissions"]), entry["spdx-id"]
        owed = rights[Use.REDISTRIBUTE_DATA].obligations
        if any(condition.startswith("same-license") for condition in entry["conditions"]):
            assert "share_alike" in owed, entry["spdx-id"]
        if "include-copyright" in entry["conditions"]:
            assert {"license_notice", "attribution"} & set(owed), entry["spdx-id"]
        if "disclose-source" in entry["conditions"] and entry["spdx-id"] not in {"ODbL-1.0"}:
            assert "source_disclosure" in owed, entry["spdx-id"]
    assert compared >= 40


def test_package_data_is_readable_and_small() -> None:
    data = resources.files("ftplatform.licensing").joinpath("default_policy.yaml").read_bytes()
    assert len(data) < MAX_BYTES / 4
    assert default_policy().digest == load_policy(data, source="again").digest
    named = {name for rule in default_policy().rules for p in rule.rights.permissions for a in p.alternatives for name in a} - {"?"}
    assert named == set(default_policy().obligations), "an obligation is declared but never asked for, or the other way round"
