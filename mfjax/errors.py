"""The one error that is the user's to mend."""


class InputError(ValueError):
    """A wrong input: what was expected, what came, and what to do, in at most six short lines.

    The command prints the message alone and exits with 1; `debug=true` shows the traceback.
    """
