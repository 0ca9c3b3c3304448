"""The keys that leave a container running and end `ctk attach`: how they are written, and found in what is typed."""

from toolkit.errors import Usage

DETACH_KEYS = "ctrl-p,ctrl-q"


def keys(text: str) -> bytes:
    """The bytes of a key sequence: "ctrl-p,ctrl-q", "ctrl-]", "a,b"; empty for "". Raises Usage."""
    result = b""
    for word in text.split(",") if text else ():
        name = word.lower().removeprefix("ctrl-")
        if name == word.lower() and len(word) == 1:
            result += word.encode()
        elif len(name) == 1 and name in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            result += bytes((ord(name.upper()) & 0x1F,))
        else:
            raise Usage(f"read the keys {text!r}", because=f"{word!r} is not a key", hint="as ctrl-p,ctrl-q or ctrl-]")
    return result


class Keys:
    """Finds a key sequence in the input; a possible beginning is held back until it turns out to be something else."""

    def __init__(self, sequence: bytes) -> None:
        self.sequence = sequence
        self.seen = 0

    def pressed(self, data: bytes) -> "tuple[bytes, bool]":
        """(the bytes for the container, was the sequence completed?)"""
        if not self.sequence:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self.sequence[self.seen]:
                self.seen += 1
                if self.seen == len(self.sequence):
                    return bytes(out), True
                continue
            out += self.sequence[: self.seen]
            self.seen = 1 if byte == self.sequence[0] else 0
            if not self.seen:
                out.append(byte)
        return bytes(out), False
