"""The options of ``rgrid run``, layer by layer: flag, then the settings below it; each message names its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rgrid_shared.errors import UsageError

if TYPE_CHECKING:
    from rgrid.config import Defaults

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True)
class Options:
    """Values by the flag's name without dashes. ``flags``: what was typed, None or empty for what was not."""

    flags: Mapping[str, object]
    defaults: Defaults

    def typed(self, name: str) -> bool:
        """True if the flag itself was given."""
        value = self.flags.get(name)
        return value is not None and value is not False and value not in ([], ())

    def _find(self, name: str) -> tuple[object | None, str]:
        if self.typed(name):
            return self.flags[name], f"--{name}"
        value, source = self.defaults.find(name)
        return value, f"{name} from {source}"

    def text(self, name: str) -> str:
        """A text, empty if it is set nowhere."""
        value, source = self._find(name)
        if value is None:
            return ""
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
        raise UsageError(f"{source} is not a text: {value!r}.", hint="Correct it.")

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds, None if it is set nowhere."""
        value, source = self._find(name)
        if value is None or value == "":
            return None
        try:
            number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise UsageError(
                f"{source}: {value!r} is not a number from {low:,} to {high:,}.", hint=f"--{name} {max(low, 1)}"
            )
        return number

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Yes or no. A flag that was typed as its opposite is False in ``flags``."""
        value = self.flags.get(name)
        source = f"--{name}"
        if value is None or (value is False and not default):
            value, source = self.defaults.find(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        raise UsageError(f"{name} from {source}: {value!r} is neither yes nor no.", hint="Write true or false.")

    def texts(self, name: str) -> tuple[str, ...]:
        """Several texts; a setting may be a list, or one text with commas between them."""
        value, source = self._find(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
        raise UsageError(f"{source} is not a list of texts: {value!r}.", hint='Write it like ["a", "b"].')

    def pairs(self, name: str) -> tuple[str, ...]:
        """``KEY=VALUE`` texts; a setting may be a table."""
        value, _ = self._find(name)
        if isinstance(value, Mapping):
            return tuple(f"{key}={part}" for key, part in value.items())
        return self.texts(name)
