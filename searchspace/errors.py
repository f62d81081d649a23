"""The one error for input that a person can correct; entry points print it as one line and exit with 2."""


class InputError(ValueError):
    """What a person wrote is wrong: the message names the place, the value and what is accepted."""
