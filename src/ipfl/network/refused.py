"""Why a participant does not do what it is asked."""

SHOWN = 250


class RefusedError(Exception):
    """Why a request is not answered; `lasting`: nor will any other be; `lacks`: what has to be sent first."""

    def __init__(self, reason: str, lasting: bool = False, lacks: str = ""):
        super().__init__(reason)
        self.lasting, self.lacks = lasting, lacks


def short(text: str) -> str:
    """A text that has room in a message.

    >>> len(short("a" * 1000))
    250
    """
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
