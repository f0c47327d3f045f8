"""The one exception of this package: a refusal that says what is wrong and what to do."""

from typing import ClassVar


class Refusal(Exception):
    """A job that cannot or must not be done; `error_class` is one of Armillary's documented classes."""

    EXIT_CODES: ClassVar[dict[str, int]] = {
        "input missing": 10,
        "science error": 11,
        "out of memory": 12,
        "out of disk": 13,
        "preempted": 15,
        "infrastructure": 16,
    }

    def __init__(self, message: str, remedy: str, error_class: str = "science error") -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy
        self.error_class = error_class

    @property
    def exit_code(self) -> int:
        return self.EXIT_CODES[self.error_class]
