"""An injected key that a provider repeats: it goes no further than here.

Some providers write the key that they refuse into their error. The application that calls us does
not hold that key and must not learn it this way, so it is blackened in what is passed on, byte for
byte, and header lines that hold it are left out. A compressed answer is not looked into.
"""

from __future__ import annotations


class KeyEcho:
    """Blackens one key in one answer's body, wherever its pieces are cut."""

    __slots__ = ("_held", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._held = b""

    def pass_on(self, piece: bytes, *, last: bool) -> bytes:
        """What may be seen of the body now; an end that may be the key's beginning waits for the next piece."""
        key = self._key
        if self._held:
            piece = self._held + piece
            self._held = b""
        if key in piece:
            piece = piece.replace(key, b"*" * len(key))
        if not last:
            begins = self._beginning(piece)
            if begins < len(piece):
                self._held = piece[begins:]
                return piece[:begins]
        return piece

    def _beginning(self, piece: bytes) -> int:
        """Where the key begins that the piece ends within; its length if it does not."""
        first = self._key[:1]
        at = piece.find(first, max(0, len(piece) - len(self._key) + 1))
        while at >= 0 and not self._key.startswith(piece[at:]):
            at = piece.find(first, at + 1)
        return at if at >= 0 else len(piece)


def without_key(lines: bytes, key: bytes) -> bytes:
    """A head's lines less those in which the key stands; b"" is no key."""
    if not key or key not in lines:
        return lines
    status, *headers = lines.splitlines(keepends=True)
    return status.replace(key, b"") + b"".join(line for line in headers if key not in line)
