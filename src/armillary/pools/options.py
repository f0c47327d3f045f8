"""Options of a pool's document, read field by field: each is checked, and what nobody asked for is refused by name."""

import shlex
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from armillary.base import units
from armillary.base.errors import UsageError


class Options:
    """A mapping whose fields are taken one by one; `end` refuses those that are left."""

    def __init__(self, part: Any, field: str) -> None:
        if part is not None and not isinstance(part, Mapping):
            raise UsageError(f"{field} is not a mapping.", f"Write {field}: {{…}}.", field=field)
        self._part: Mapping[str, Any] = part or {}
        self._field = field
        self._known: list[str] = []

    def path(self, name: str) -> str:
        """The field's full name, for messages."""
        return f"{self._field}.{name}"

    def has(self, name: str) -> bool:
        """Whether it is given."""
        return self._take(name) is not None

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """One line of text."""
        value = self._take(name)
        if value is None:
            if required:
                raise UsageError(f"{self.path(name)} is missing.", "Give it.", field=self.path(name))
            return default
        # A number may be a partition's or an account's name; anything with a line break could add lines to a script.
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip() or "\n" in str(value):
            raise self._wrong(name, value, "Write one line of text.")
        return str(value)

    def word(self, name: str, default: str = "", *, required: bool = False) -> str:
        """Text without spaces that does not begin as an option does."""
        value = self.text(name, default, required=required)
        if any(character.isspace() for character in value) or value.startswith("-"):
            raise self._wrong(name, value, "Write one word.")
        return value

    def lines(self, name: str) -> tuple[str, ...]:
        """A list of lines, or one."""
        value = self._take(name)
        if value is None:
            return ()
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) and "\n" not in line.strip() for line in lines):
            raise self._wrong(name, value, "Write a list of lines.")
        return tuple(line.strip() for line in lines)

    def directives(self, mark: str) -> tuple[str, ...]:
        """The field `lines` as lines of a job script, each with the scheduler's mark (`#PBS`) whether it was written or not."""
        return tuple(f"{mark} {line.removeprefix(mark).strip()}" for line in self.lines("lines"))

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A command: a list of words, or a line as a shell would split it."""
        value = self._take(name)
        if value is None:
            return default
        try:
            words = shlex.split(value) if isinstance(value, str) else value
        except ValueError as error:
            raise self._wrong(name, value, "Close its quotes.") from error
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
            raise self._wrong(name, value, "Write a command, or a list of its words.")
        return tuple(words)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(name, value, f"Write a whole number from {low} to {high}.")
        return value

    def number(self, name: str, default: float | None) -> float | None:
        """A number, 0 or more."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise self._wrong(name, value, "Write a number, 0 or more.")
        return value

    def duration(self, name: str) -> timedelta | None:
        """A length of time."""
        value = self._take(name)
        return None if value is None else units.duration(str(value), self.path(name))

    def size(self, name: str) -> int | None:
        """Bytes."""
        value = self._take(name)
        return None if value is None else units.size(value, self.path(name))

    def end(self) -> None:
        """Refuse what was not asked for."""
        for name in self._part:
            if name not in self._known:
                close = get_close_matches(str(name), self._known, 1)
                remedy = f"Did you mean {close[0]}?" if close else f"Choose from: {', '.join(self._known)}."
                raise UsageError(f"{self.path(name)} is not known here.", remedy, field=self.path(name))

    def _take(self, name: str) -> Any:
        if name not in self._known:
            self._known.append(name)
        return self._part.get(name)

    def _wrong(self, name: str, value: Any, remedy: str) -> UsageError:
        return UsageError(f"{self.path(name)} is {value!r}.", remedy, field=self.path(name))
