"""Names that look like secrets. Such files travel only if the user names them."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Final

_NAMES: Final = (
    ".env*",
    "*.pem",
    "id_*",
    "*credential*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".htpasswd",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
)
_FOLDERS: Final = (".ssh", ".aws", ".gnupg", ".kube", ".azure", ".gcloud")
_EITHER: Final = re.compile("|".join(translate(name) for name in _NAMES))


def secret_name(name: str) -> bool:
    """True if a file or directory of this name is taken for a secret.

    Case does not matter. Python source is exempt from ``id_*`` alone: ``id_map.py`` is a module, no SSH key.
    """
    lower = name.lower()
    if lower in _FOLDERS:
        return True
    if lower.startswith("id_") and lower.endswith(".py") and "credential" not in lower:
        return False
    return _EITHER.match(lower) is not None


def secret_part(path: str) -> str | None:
    """The first part of a relative or absolute path that looks like a secret, or None."""
    return next((part for part in path.split("/") if part and secret_name(part)), None)
