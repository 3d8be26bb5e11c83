"""Environment values for the script: ``-e KEY``, ``-e KEY=VALUE`` and ``--env-file``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIMIT: Final = 128 * 1024


def collect(given: Iterable[str], files: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """All values: files in order, then ``given`` over them. ``-e KEY`` takes the value from ``environ``.

    Raises:
        UsageError: a malformed name, a variable that is not set, an unreadable file (its line is named).
    """
    values: dict[str, str] = {}
    for name in files:
        values.update(read_file(name, environ))
    for text in given:
        key, equals, value = text.partition("=")
        _check_name(key, f"-e {key}=…" if equals else f"-e {key}")
        if not equals:
            if key not in environ:
                raise UsageError(
                    f"-e {key}: the variable {key} is not set here.",
                    hint=f"Set it (export {key}=…) or give the value: -e {key}=VALUE.",
                )
            value = environ[key]
        values[key] = value
    for key, value in values.items():
        _check_value(key, value)
    return values


def read_file(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    r"""The values of an env file: ``KEY=VALUE`` or ``KEY`` (inherited) a line, ``#`` comments, optional quotes.

    A value in single or double quotes is taken without them (and ``\n`` in double quotes is a line break), as the
    ``.env`` files of docker compose and python-dotenv are read; nothing is expanded.
    """
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"--env-file {name}: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--env-file {name} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        where = f"line {number} of {name}"
        key, equals, value = line.partition("=")
        key = key.rstrip()
        _check_name(key, where)
        if equals:
            values[key] = _unquote(value.strip(), where)
        elif key in environ:
            values[key] = environ[key]
        else:
            raise UsageError(f"{where}: the variable {key} is not set here.", hint=f"Write {key}=VALUE or set it.")
    return values


def _unquote(value: str, where: str) -> str:
    quote = value[:1]
    if quote not in {"'", '"'}:
        return re.sub(r"\s+#.*$", "", value)
    end = value.find(quote, 1)
    if end == -1:
        raise UsageError(f"{where}: a quote is not closed.", hint=f"Close it with {quote}.")
    inside = value[1:end]
    return inside.replace("\\n", "\n") if quote == '"' else inside


def _check_name(key: str, where: str) -> None:
    if not _NAME.fullmatch(key):
        raise UsageError(
            f"{where}: {key!r} is not the name of a variable.",
            hint="Write -e KEY or -e KEY=VALUE; a name has letters, digits and _ and starts with no digit.",
        )


def _check_value(key: str, value: str) -> None:
    if "\0" in value:
        raise UsageError(f"The value of {key} holds a NUL byte.", hint="Environment values cannot hold one.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"The value of {key} is not UTF-8.", hint="Encode it, for example in base 64.") from error
    if size > _LIMIT:
        raise UsageError(f"The value of {key} is over 128 KiB.", hint="Put it into a file and pass the file.")
