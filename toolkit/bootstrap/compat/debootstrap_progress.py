"""debootstrap's messages as events. They are read in the format that it has for debian-installer:

    I: CODE        an information (W: a warning, E: the error that ends it), then
    IA: ARGUMENT   any number of arguments, then
    IF: FORMAT     a format of printf(1), which completes the message
    P: NOW END     progress, with an optional CODE

Source: debootstrap 1.0.128, functions: info, warning, error, progress.
"""

import time

from toolkit.events import Emit, Finished, Line, Note, Progressed, Started

STAGES = (
    ("release", "Verify the suite"),
    ("index", "Read the package lists"),
    ("resolve", "Choose the packages"),
    ("download", "Download"),
    ("unpack", "Unpack"),
    ("configure", "Configure"),
)
_ORDER = [name for name, _ in STAGES]

_STAGE_OF = {
    "DOWNREL": "release",
    "DOWNRELSIG": "release",
    "RELEASESIG": "release",
    "VALIDRELSIG": "release",
    "DOWNPKGS": "index",
    "DOWNMAINPKGS": "index",
    "RESOLVEREQ": "resolve",
    "RESOLVEBASE": "resolve",
    "SIZEDEBS": "resolve",
    "DOWNDEBS": "download",
    "CHOSENEXTRACTOR": "unpack",
    "EXTRACTPKGS": "unpack",
    "EXTRACTING": "unpack",
    "INSTCORE": "configure",
    "UNPACKREQ": "configure",
    "CONFREQ": "configure",
    "UNPACKBASE": "configure",
    "CONFBASE": "configure",
    "BASESUCCESS": "configure",
}
_UNITS = {"download": "bytes", "unpack": "packages"}


class Messages:
    """Turns debootstrap's messages into events. `error` is its last error message, `stage` the current stage."""

    def __init__(self, emit: Emit) -> None:
        self.error = ""
        self._emit = emit
        self.stage = ""
        self._began = 0.0
        self._kind = ""
        self._code = ""
        self._arguments: list[str] = []

    def line(self, text: str) -> None:
        """Read one line of debootstrap's descriptor 3."""
        head, _, rest = text.partition(": ")
        if head in ("I", "W", "E"):
            self._kind, self._code, self._arguments = head, rest.strip(), []
        elif head == self._kind + "A":
            self._arguments.append(rest)
        elif head == self._kind + "F" and self._kind:
            self._message(formatted(rest, self._arguments))
        elif head == "P":
            words = rest.split()
            numbers = [int(word) for word in words[:2] if word.isdigit()]
            if len(words) > 2:
                self.enter(_STAGE_OF.get(words[2], self.stage))
            if len(numbers) == 2 and self.stage in _UNITS:
                self._emit(Progressed(self.stage, numbers[0], numbers[1], _UNITS[self.stage]))

    def finish(self) -> None:
        """End the current stage: debootstrap has succeeded."""
        self.enter("")

    def _message(self, text: str) -> None:
        if self._kind == "E":
            self.error = text
        elif self._kind == "W":
            self._emit(Note(f"debootstrap: {text}", warning=True))
        else:
            self.enter(_STAGE_OF.get(self._code, self.stage))
            if self.stage:
                self._emit(Line(self.stage, text))

    def enter(self, stage: str) -> None:
        """Go on to a stage. debootstrap sometimes reads Packages again in later stages; earlier stages are ignored."""
        if stage == self.stage or (stage and self.stage and _ORDER.index(stage) < _ORDER.index(self.stage)):
            return
        now = time.monotonic()
        if self.stage:
            self._emit(Finished(self.stage, now - self._began))
        self.stage, self._began = stage, now
        if stage:
            self._emit(Started(stage))


def formatted(text: str, arguments: list[str]) -> str:
    """printf(1) with `%s` only, the one conversion in debootstrap's messages."""
    left = list(arguments)
    pieces = text.split("%s")
    out = pieces[0]
    for piece in pieces[1:]:
        out += (left.pop(0) if left else "") + piece
    return out.replace("%%", "%")
