"""The one error of this package: a file that is not read, with the reason as a sentence."""


class Refused(ValueError):
    """The file is damaged, hostile or not what its name says; the message says which."""


def brief(error: BaseException) -> str:
    """A library's message as a part of a sentence: one line, not long, no full stop."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (line if len(line) <= 160 else line[:159] + "…").rstrip(".")
