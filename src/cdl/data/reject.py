"""How a data step sets an item aside: it raises `Reject` with a reason.

from cdl.data.reject import Reject

def article(content: bytes, fields: dict) -> bytes:
    if len(content.split()) < 50:
        raise Reject("shorter than 50 words")
    return content
"""

LONGEST_REASON = 200  # characters


class Reject(Exception):
    """This item is not used. Reasons are counted in the open, those that quote a test item are not said there.

    It is one line: characters that cannot be printed are replaced.
    """

    def __init__(self, reason: str) -> None:
        self.reason = "".join(map(_printed, reason[:LONGEST_REASON]))
        super().__init__(self.reason)


def _printed(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\ufffd"
