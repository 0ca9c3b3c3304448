"""The types of a recipe: plain immutable values, which `parse.py` reads from Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command at a prompt, and its expected output.

    `typed` are lines typed at the prompt of the running program (a container's shell), each with the output expected
    after it; `expected` is the output before the first of them. An expectation of () is not checked.
    """

    text: str
    as_root: bool
    expected: tuple[str, ...] = ()
    typed: tuple["Command", ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the commands of a step and how to run them."""

    commands: tuple[Command, ...]
    terminal: str = "1"
    expect_fail: bool = False
    cleanup: bool = False
    stays: bool = False  # the last command keeps running; a later block of the same terminal types into it
    timeout_s: float = 600.0
    conditions: tuple[str, ...] = ()  # the block runs only if the host meets them (conditions.py)
    line: int = 0  # its line in the file, from 1


@dataclass(frozen=True, slots=True)
class Step:
    """Text to read, then a block to run (None: only text). `number` starts at 1 and counts blocks only."""

    number: int
    section: str
    words: str
    block: Block | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole tutorial. `needs` are the words of its `<!-- needs: … -->` comment (conditions.py).

    `minutes` is the duration of a run without a pause, from `<!-- minutes: … -->`; 0: not given.
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
        """The number of steps that run something."""
        return max((step.number for step in self.steps), default=0)

    @property
    def needs_root(self) -> bool:
        """Whether any command has the root prompt, `#`."""
        return any(command.as_root for step in self.steps if step.block for command in step.block.commands)

    @property
    def makes_containers(self) -> bool:
        """Whether any command makes a container."""
        commands = [command.text for step in self.steps if step.block for command in step.block.commands]
        return any(text.startswith(("ctk run", "ctk create", "ctk up")) for text in commands)

    @property
    def wants(self) -> tuple[str, ...]:
        """All that it needs of the host: `needs`, and root if a command has root's prompt."""
        return ("root", *self.needs) if self.needs_root else self.needs
