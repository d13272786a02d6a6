"""What may be called what in the store, and the key each thing lives under.

Every name is checked once, here, before it becomes part of a key: names come from configuration and from stored documents,
and a key is a path on disk. Nothing else in this package builds keys from strings.
"""

from __future__ import annotations

import re

from ftplatform.errors import StoreError

# No dot and no upper case: '..' cannot be spelled, and two names never collide on a case-insensitive disk.
_SEGMENT = r"[a-z0-9_-]{1,128}"
_ASSET = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}")
_CHECK = re.compile(_SEGMENT)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: Longest path of a file inside a snapshot (characters) and longest part of it (UTF-8 bytes, the limit of ext4, APFS and NTFS).
MAX_PATH = 512
MAX_PATH_PART = 255


def asset_name(value: str) -> str:
    """`value` if it is a valid asset name such as ``splits/support``.

    Raises:
        StoreError: if it is not 1 to 8 parts of ``[a-z0-9_-]`` joined by ``/``.
    """
    if not isinstance(value, str) or not _ASSET.fullmatch(value):
        raise StoreError(
            f"{value!r} is not a valid asset name.",
            remedy="Use parts of lower-case letters, digits, '_' and '-' joined by '/', for example 'splits/support'.",
        )
    return value


def check_name(value: str) -> str:
    """`value` if it is a valid check name such as ``slice_survival``; else StoreError."""
    if not isinstance(value, str) or not _CHECK.fullmatch(value):
        raise StoreError(f"{value!r} is not a valid check name.", remedy="Use lower-case letters, digits, '_' and '-'.")
    return value


def digest_name(value: str) -> str:
    """`value` if it is a SHA-256 in 64 lower-case hexadecimal digits; else StoreError."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise StoreError(f"{value!r} is not a snapshot digest.", remedy="Give all 64 lower-case hexadecimal digits.")
    return value


def file_path(value: str) -> str:
    """`value` if it is a relative POSIX path that stays inside the snapshot and that every file system can hold.

    Raises:
        StoreError: on absolute paths, ``.``, ``..`` and empty parts, backslashes, drive letters, control characters, and
            paths that are too long.
    """
    if not isinstance(value, str):
        raise StoreError(f"{value!r} is not a file path.", remedy="Give it as text.")
    parts = value.split("/")
    if (
        not value
        or len(value) > MAX_PATH
        or _CONTROL.search(value)
        or "\\" in value
        or ":" in parts[0]
        or any(part in {"", ".", ".."} for part in parts)
        or any(len(part.encode()) > MAX_PATH_PART for part in parts)
    ):
        raise StoreError(
            f"{value!r} is not a valid file path inside a snapshot.",
            remedy=f"Use a relative path with '/' between its parts, without '.' or '..', at most {MAX_PATH} characters.",
        )
    return value


def blob_key(sha256: str) -> str:
    """Key of the blob with this digest."""
    return f"blobs/sha256/{digest_name(sha256)[:2]}/{sha256}"


def manifest_key(digest: str) -> str:
    """Key of the manifest with this digest."""
    return f"manifests/{digest_name(digest)[:2]}/{digest}.json"


def head_key(asset: str) -> str:
    """Key of the asset's head."""
    return f"heads/{asset_name(asset)}.json"


def evaluation_key(asset: str, check: str) -> str:
    """Key of the pointer to the latest evaluation of a check on an asset."""
    return f"evaluations/{asset_name(asset)}/{check_name(check)}.json"
