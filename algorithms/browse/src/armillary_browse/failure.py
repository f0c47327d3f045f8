"""Why a job failed: an error class of Armillary's, a sentence and a remedy."""


class Failure(Exception):
    """A failure that a person can act upon."""

    def __init__(self, error_class: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.remedy = remedy
