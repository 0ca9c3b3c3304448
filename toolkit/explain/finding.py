"""One finding of `ctk check`."""

from dataclasses import dataclass

from toolkit.explain.codes import CODES


@dataclass(frozen=True)
class Found:
    """One finding: its code, JSON path ("" for the whole), what is wrong, why it matters, what to write instead."""

    code: str
    path: str
    message: str
    instead: str = ""

    @property
    def error(self) -> bool:
        """Does it make a launch fail?"""
        return self.code.startswith("E")

    @property
    def why(self) -> str:
        """Why it matters."""
        return CODES[self.code][1]

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {
            "code": self.code,
            "severity": "error" if self.error else "warning",
            "path": self.path,
            "message": self.message,
            "why": self.why,
            "instead": self.instead,
        }


def found(code: str, path: str, message: str, instead: str = "") -> Found:
    """A finding; without `instead` it has the code's own advice."""
    return Found(code, path, message, instead or CODES[code][2])
