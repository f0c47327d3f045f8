"""Refusals: what the program will not do, why, and what to do instead."""


class RefusalError(Exception):
    """Input or request that cannot be imaged; the message names the field, the remedy says what to change."""

    def __init__(self, message: str, remedy: str, *, missing_input: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.missing_input = missing_input

    def __reduce__(self) -> tuple[type["RefusalError"], tuple[str, str], dict[str, bool]]:
        """Pickle with all of it, so that a Dask worker's refusal arrives whole."""
        return RefusalError, (self.message, self.remedy), {"missing_input": self.missing_input}

    def __str__(self) -> str:
        return f"{self.message} Remedy: {self.remedy}"
