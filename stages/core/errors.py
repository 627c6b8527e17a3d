"""The user's mistakes apart from the program's."""


class UserError(ValueError):
    """A setting, a file or the data is wrong; the message is one line that says what, where and how to mend it.

    A stage prints that line and nothing else. Any other exception is a mistake of the program, whose
    traceback belongs into the log.
    """


class PeerError(UserError):
    """A process that this one works with has ended; why, that one knows or whoever started them."""
