"""One act of a launch, told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Act:
    """What is done, in a sentence; the system calls; shell lines that do the same (none where no shell can); the field
    of config.json that asked for it ("": ctk itself); who does it.

    `side`: "outside" (ctk), "inside" (the container's first process), "program" (it too, at the very end). `flags` are
    the part of this act in a wrapping command (unshare, nsenter, prlimit, setpriv), named by `tool`; `step` is its
    place among the plan's steps, -1 for an act around them.
    """

    side: str
    sentence: str
    calls: str
    shell: tuple[str, ...] = ()
    field: str = ""
    tool: str = ""
    flags: tuple[str, ...] = ()
    step: int = -1
    note: str = ""

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "side": self.side,
            "what": self.sentence,
            "calls": self.calls,
            "shell": list(self.shell),
            "field": self.field,
            "note": self.note,
        }
