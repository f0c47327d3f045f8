"""The one error of this package: a file that is not read, with the reason as a sentence."""


class Refused(ValueError):
    """The file is damaged, hostile or not what its name says; the message says which."""
