"""Recognizing credentials in text, so that a project file that holds one is refused and no message repeats it.

The shapes are the documented prefixes of the vendors' tokens; a generic entropy test would refuse digests and commits, which
belong into this file.
"""

from __future__ import annotations

import re

_SHAPES = (
    ("a password in a URL", re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@?#]*:[^/\s@]+@")),
    ("a user name in a URL", re.compile(r"(?:https?|s3|ftp|postgres(?:ql)?(?:\+\w+)?)://[^/\s:@?#]+@")),
    ("a signed URL", re.compile(r"[?&](?:x-amz-(?:signature|credential|security-token)|sig|signature|awsaccesskeyid)=", re.I)),
    ("a token in a URL", re.compile(r"[?&](?:access_?token|api_?key|apikey|auth|token|password|secret)=[^&\s]", re.I)),
    ("a webhook URL", re.compile(r"https://hooks\.slack\.com/\S+|https://discord(?:app)?\.com/api/webhooks/\S+", re.I)),
    ("an AWS access key id", re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")),
    ("a Hugging Face token", re.compile(r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{30,}")),
    ("a GitHub token", re.compile(r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})")),
    ("a Slack token", re.compile(r"(?<![A-Za-z0-9_])xox[abeprs]-[A-Za-z0-9-]{10,}")),
    ("an API key", re.compile(r"(?<![A-Za-z0-9_])sk-[A-Za-z0-9_-]{20,}")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
)

#: Option names whose value is a credential whatever it looks like (fsspec and boto spellings included).
_SECRET_OPTION = re.compile(
    r"(?:^|_)(?:secret|secrets|password|passwd|pwd|token|credential|credentials|key|api_?key|private_?key|sas)(?:_id|_key)?$", re.I
)


def credential_in(text: str) -> str | None:
    """What kind of credential `text` holds (``"a password in a URL"``), or None."""
    for kind, shape in _SHAPES:
        if shape.search(text):
            return kind
    return None


def names_a_credential(option: str) -> bool:
    """Whether an option of this name (``secret``, ``aws_secret_access_key``, ``token``) carries a credential."""
    return _SECRET_OPTION.search(option) is not None


def shown(value: object, limit: int = 60) -> str:
    """`value` quoted for a message: escaped, cut at `limit` characters, and hidden if it holds a credential."""
    text = str(value)
    if credential_in(text):
        return "(hidden: it looks like a credential)"
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
