"""One act of a launch, described."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Act:
    """What is done, in a sentence; the system calls; shell lines that do the same (none if a shell can't); the field
    of config.json that asked for it ("": ctk itself); who does it.

    `side`: "outside" (ctk), "inside" (the container's first process), "program" (the same process, at the very end).
    `flags` are this act's options of the wrapping command `tool` (unshare, nsenter, prlimit, setpriv); `step` is its
    index among the plan's steps, -1 for an act of ctk's around them.
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
