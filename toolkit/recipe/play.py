"""Play a recipe: words, command, Enter, the real thing, the comparison; the clean-up whatever happens."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

from toolkit.errors import CtkError, HostLacks, Usage
from toolkit.recipe.compare import difference, matches
from toolkit.recipe.model import Block, Command, Recipe, Step
from toolkit.recipe.terminal import Terminal

Answer = Literal["run", "skip", "quit"]


class Stage(Protocol):
    """Where a recipe is played: what the reader sees and answers. `ui.tutorial` is the one on a terminal."""

    def words(self, step: Step, recipe: Recipe) -> None: ...
    def preview(self, step: Step, commands: Sequence[Command]) -> None: ...
    def command(self, step: Step, command: Command) -> None: ...
    def ask(self, _: Step, /) -> Answer: ...
    def output(self, text: str) -> None: ...
    def verdict(self, step: Step, problem: str, diff: Sequence[str]) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to play. `work` "" is a new folder that goes away afterwards if the recipe left nothing in it."""

    yes: bool = False
    dry_run: bool = False
    first: int = 1
    work: str = ""
    launcher: tuple[str, ...] = ("ctk",)


class StepFailed(CtkError):
    """A step did not do what the recipe says."""

    code = "E080"


def play(recipe: Recipe, options: Options, stage: Stage) -> int:
    """Play `recipe`; the number of steps that ran. Raises StepFailed after the clean-up, Usage, HostLacks.

    The blocks marked `cleanup` run at the end even if a step failed or the reader interrupted; in that case their own
    results are shown and do not hide the first failure.
    """
    if not 1 <= options.first <= recipe.numbered:
        raise Usage(f"begin at step {options.first}", because=f"the recipe has steps 1 to {recipe.numbered}")
    if options.dry_run:
        return _show(recipe, options, stage)
    if recipe.needs_root and os.geteuid() != 0:
        hint = f"sudo ctk recipe run {recipe.name}"
        raise HostLacks(f"play {recipe.name!r}", because="its commands need root (their prompt is #)", hint=hint)
    with ExitStack() as undo:
        work = _work_folder(options, undo)
        return _Player(recipe, options, stage, work, undo).play()


def _show(recipe: Recipe, options: Options, stage: Stage) -> int:
    for step in recipe.steps:
        if step.number >= options.first:
            stage.words(step, recipe)
            if step.block is not None:
                stage.preview(step, step.block.commands)
    return 0


def _work_folder(options: Options, undo: ExitStack) -> str:
    if options.work:
        os.makedirs(options.work, exist_ok=True)
        return os.path.abspath(options.work)
    work = tempfile.mkdtemp(prefix="ctk-recipe-")
    undo.callback(_remove_if_empty, work)
    os.chmod(work, 0o755)  # the _apt user of a root file system in it must be able to pass
    return work


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # what a failed recipe left is for its reader to look at; `say` has named the folder


class _Player:
    def __init__(self, recipe: Recipe, options: Options, stage: Stage, work: str, undo: ExitStack) -> None:
        self.recipe = recipe
        self.options = options
        self.stage = stage
        self.work = work
        self.undo = undo
        self.terminals: dict[str, Terminal] = {}
        self.environment = self._environment()

    def _environment(self) -> dict[str, str]:
        """Ours, with this very ctk first in PATH, and plain messages."""
        folder = tempfile.mkdtemp(prefix="ctk-bin-")
        self.undo.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chmod(folder, 0o755)  # a step may run as somebody else
        path = os.path.join(folder, "ctk")
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in self.options.launcher)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        ours = {"PATH": folder + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C.UTF-8"}
        # On the reader's terminal programs may draw; what is only compared should be lines.
        drawing = {} if sys.stdout.isatty() else {"TERM": "dumb"}
        return {**os.environ, **drawing, **ours}

    def play(self) -> int:
        done = 0
        reached: list[Step] = []
        try:
            for step in self.recipe.steps:
                if step.block is not None and step.block.cleanup:
                    reached.append(step)
                    continue
                if step.number < self.options.first:
                    continue
                self.stage.words(step, self.recipe)
                if step.block is None:
                    continue
                answer = self._ask(step)
                if answer == "quit":
                    break
                if answer == "run":
                    self._run(step, step.block)
                    done += 1
        except BaseException:
            self._clean_up(reached or self._cleanup_steps(), quietly=True)
            raise
        return done + self._clean_up(self._cleanup_steps(), quietly=False)

    def _cleanup_steps(self) -> list[Step]:
        return [step for step in self.recipe.steps if step.block and step.block.cleanup]

    def _clean_up(self, steps: Sequence[Step], *, quietly: bool) -> int:
        """Run the clean-up blocks; `quietly` after a failure, when the first error is the one to tell."""
        problem: StepFailed | None = None
        done = 0
        try:
            for step in steps:
                assert step.block is not None
                self.stage.words(step, self.recipe)
                try:
                    self._run(step, step.block)
                    done += 1
                except StepFailed as error:
                    problem = problem or error
        finally:
            for terminal in self.terminals.values():
                terminal.close()
        if os.listdir(self.work):
            self.stage.say(f"what is left is in {self.work}")
        if problem is not None and not quietly:
            raise problem
        return done

    def _ask(self, step: Step) -> Answer:
        assert step.block is not None
        if self.options.yes:
            return "run"
        self.stage.preview(step, step.block.commands)
        return self.stage.ask(step)

    def _terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            size = shutil.get_terminal_size((100, 24))
            self.terminals[name] = Terminal(self.work, self.environment, self.stage.output, size)
        return self.terminals[name]

    def _run(self, step: Step, block: Block) -> None:
        # A clean-up gets a terminal of its own: the others may have gone elsewhere, or may still run something.
        terminal = self._terminal("clean-up" if block.cleanup else block.terminal)
        for at, command in enumerate(block.commands):
            last = at == len(block.commands) - 1
            self.stage.command(step, command)
            try:
                self._one(step, block, terminal, command, stays=block.stays and last)
            except TimeoutError as error:
                terminal.interrupt()
                raise self._failed(step, command, str(error), ()) from None
        self.stage.verdict(step, "", ())

    def _one(self, step: Step, block: Block, terminal: Terminal, command: Command, *, stays: bool) -> None:
        code: int | None = 0
        if command.text:
            output, code = terminal.run(command.text, block.timeout_s, interactive=bool(command.typed) or stays)
            self._compare(step, command, command.expected, output)
        for number, line in enumerate(command.typed, 1):
            if not terminal.busy:
                raise self._failed(step, command, "the program ended before all lines were typed", ())
            output, code = terminal.type(line.text, block.timeout_s)
            if not (stays and number == len(command.typed)) or line.expected:
                self._compare(step, line, line.expected, output)
        if code is None:
            if not stays:
                raise self._failed(step, command, "the program still waits at its prompt", ())
        elif stays:
            raise self._failed(step, command, f"it ended (exit code {code}), but should have stayed", ())
        elif bool(code) != block.expect_fail:
            because = "it should have failed, but did not" if block.expect_fail else f"exit code {code}"
            raise self._failed(step, command, because, ())

    def _compare(self, step: Step, command: Command, expected: Sequence[str], output: Sequence[str]) -> None:
        if expected and not matches(expected, output):
            diff = difference(expected, output)
            raise self._failed(step, command, "the output is not the one that the recipe shows", diff)

    def _failed(self, step: Step, command: Command, because: str, diff: Sequence[str]) -> StepFailed:
        self.stage.verdict(step, because, diff)
        line = step.block.line if step.block else 0
        where = f"step {step.number} of {self.recipe.name!r} ({os.path.basename(self.recipe.path)} line {line})"
        return StepFailed(f"{where}: {command.text or 'the typed line'}", because=because)
