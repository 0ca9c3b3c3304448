"""What a recipe is made of. All of it is plain immutable facts that `parse.py` reads from Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One prompt line and what should come of it.

    `typed` are the lines typed at a program's own prompt while it runs (a container's shell), each with the output
    expected after it; `expected` is what comes before the first of them. An expectation of () is not checked.
    """

    text: str
    as_root: bool
    expected: tuple[str, ...] = ()
    typed: tuple["Command", ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the commands of a step and how they are to be run."""

    commands: tuple[Command, ...]
    terminal: str = "1"
    expect_fail: bool = False
    cleanup: bool = False
    stays: bool = False  # the last command goes on running; a later block of the same terminal types into it
    timeout_s: float = 600.0
    conditions: tuple[str, ...] = ()  # only where the host meets them (conditions.py)
    line: int = 0  # where it is in the file, from 1


@dataclass(frozen=True, slots=True)
class Step:
    """Words to read, then a block to run (None: only words). `number` is from 1 and counts blocks only."""

    number: int
    section: str
    words: str
    block: Block | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole tutorial. `needs` are the words of its `<!-- needs: … -->` comment (conditions.py).

    `minutes` is what `<!-- minutes: … -->` says about a run without a pause; 0: it does not say.
    """

    name: str
    title: str
    summary: str
    steps: tuple[Step, ...]
    path: str = ""
    needs: tuple[str, ...] = ()
    minutes: int = 0

    @property
    def numbered(self) -> int:
        """How many steps there are to run."""
        return max((step.number for step in self.steps), default=0)

    @property
    def needs_root(self) -> bool:
        """Does any command have the root prompt, `#`?"""
        return any(command.as_root for step in self.steps if step.block for command in step.block.commands)

    @property
    def makes_containers(self) -> bool:
        """Does any command of it make one?"""
        commands = [command.text for step in self.steps if step.block for command in step.block.commands]
        return any(text.startswith(("ctk run", "ctk create", "ctk up")) for text in commands)

    @property
    def wants(self) -> tuple[str, ...]:
        """What it needs of the host in all: `needs`, and root where a command has root's prompt."""
        return ("root", *self.needs) if self.needs_root else self.needs
