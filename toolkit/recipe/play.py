"""Plays a recipe: shows text and command, waits for Enter, runs it, compares the output; always cleans up."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from toolkit.errors import CtkError, InUse, Usage
from toolkit.recipe import conditions, progress
from toolkit.recipe.compare import difference, matches
from toolkit.recipe.model import Block, Command, Recipe, Step
from toolkit.recipe.room import MakeGroup, NoGroup, Room, fresh
from toolkit.recipe.terminal import Terminal
from toolkit.text import quote

Answer = Literal["run", "skip", "shell", "quit"]


class Stage(Protocol):
    """What the reader sees and answers while a recipe is played. `ui.tutorial` implements it for a terminal."""

    def words(self, step: Step, recipe: Recipe) -> None: ...
    def preview(self, step: Step, commands: Sequence[Command]) -> None: ...
    def command(self, step: Step, command: Command) -> None: ...
    def ask(self, _: Step, /) -> Answer: ...
    def output(self, text: str) -> None: ...
    def verdict(self, step: Step, problem: str, diff: Sequence[str]) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to play. With `work` "" a new folder is made, and removed afterwards if it is empty."""

    yes: bool = False
    dry_run: bool = False
    first: int = 1
    work: str = ""
    restart: bool = False  # clean up after the run that was stopped, and start again
    clean_up: bool = False  # only clean up after the run that was stopped
    launcher: tuple[str, ...] = ("ctk",)
    group: MakeGroup = NoGroup


@dataclass(frozen=True, slots=True)
class Played:
    """The result: how many steps ran, and the step to go on with if the reader stopped (0: finished)."""

    steps: int
    stopped_at: int = 0


class StepFailed(CtkError):
    """A step did not have the result that the recipe gives."""

    code = "E080"


def play(recipe: Recipe, options: Options, stage: Stage) -> Played:
    """Play `recipe`. Raises StepFailed after the clean-up, Usage, HostLacks.

    The blocks marked `cleanup` run at the end even if a step failed or the reader interrupted; in that case their own
    results are shown, and the first failure is raised. If the reader quits, everything stays, and the next call goes on
    at the same step. `first` and `work` in `options` set another step and folder.
    """
    if not 1 <= options.first <= recipe.numbered:
        raise Usage(f"begin at step {options.first}", because=f"the recipe has steps 1 to {recipe.numbered}")
    if options.dry_run:
        return _show(recipe, options, stage)
    doing = f"play {recipe.name!r}"
    left = _stopped(recipe, options)
    # Something that must not exist when a recipe starts (`!word`) may exist when it goes on: the recipe made it.
    needs = [word for word in recipe.wants if left is None or not word.startswith("!")]
    conditions.require(needs, doing, f"ctk recipe run {quote(progress.called(recipe))}")
    with ExitStack() as undo:
        if left is not None and (options.restart or options.clean_up):
            cleaned = _Player(recipe, options, stage, left, undo).clear()
            if options.clean_up:
                return cleaned
            left = None
        if left is not None:
            stage.say(f"going on at step {left.step} of {recipe.numbered}, in {left.work} (--restart starts again)")
        begin = left or progress.Progress(options.first, _work_folder(options))
        try:
            return _Player(recipe, options, stage, begin, undo).play()
        finally:
            if not options.work and progress.load(recipe) is None:
                _remove_if_empty(begin.work)


def _stopped(recipe: Recipe, options: Options) -> progress.Progress | None:
    """The stopped run that this one continues, or None. Raises Usage if the stopped run is in another folder."""
    left = progress.load(recipe)
    if left is None:
        if options.clean_up:
            raise Usage(f"clean up after {recipe.name!r}", because="no run of it was stopped half way")
        return None
    if options.work and os.path.abspath(options.work) != left.work and not (options.restart or options.clean_up):
        hint = f"ctk recipe run {quote(progress.called(recipe))}, or the same with --clean-up"
        because = f"a run of it was stopped in {left.work}"
        raise Usage(f"begin {recipe.name!r} in {options.work!r}", because=because, hint=hint)
    return replace(left, step=options.first) if options.first > 1 else left


def _show(recipe: Recipe, options: Options, stage: Stage) -> Played:
    for step in recipe.steps:
        if _is_ahead(step, options.first):
            stage.words(step, recipe)
            if step.block is not None:
                stage.preview(step, step.block.commands)
    return Played(0)


def _is_ahead(step: Step, first: int) -> bool:
    """Whether `step` is shown when starting at step `first`. Text alone has the number of the step before it."""
    return step.number >= (first if step.block is not None else first - 1)


def _work_folder(options: Options) -> str:
    if options.work:
        os.makedirs(options.work, exist_ok=True)
        if os.listdir(options.work):  # the clean-up of a recipe removes files by name
            raise InUse(f"play in {options.work!r}", because="it is not empty", hint="name a new folder")
        return os.path.abspath(options.work)
    work = tempfile.mkdtemp(prefix="ctk-recipe-")
    os.chmod(work, 0o755)  # the user _apt of a root file system in it needs to traverse it
    return work


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # the reader may look at what a failed recipe left; `say` has named the folder


class _Player:
    def __init__(
        self, recipe: Recipe, options: Options, stage: Stage, begin: progress.Progress, undo: ExitStack
    ) -> None:
        self.recipe = recipe
        self.options = options
        self.stage = stage
        self.begin = begin
        self.work = begin.work
        self.terminals: dict[str, Terminal] = {}
        word = progress.called(recipe)
        self.room = Room(begin.room, word, self.work, launcher=options.launcher, group=options.group, undo=undo)

    def play(self) -> Played:
        done = 0
        try:
            if not self.options.yes and self.recipe.makes_containers:
                where = quote(self.room.records)
                self.stage.say(
                    f"(Its containers are separate from yours: in another terminal, ctk --root {where} list)"
                )
            for step in self.recipe.steps:
                if not _is_ahead(step, self.begin.step) or (step.block is not None and step.block.cleanup):
                    continue
                self.stage.words(step, self.recipe)
                if step.block is None or not self._fits(step, step.block):
                    continue
                answer = self._ask(step)
                if answer == "quit":
                    return self._stop(step, done)
                if answer == "run":
                    self._run(step, step.block)
                    done += 1
        except BaseException:
            self._clean_up(self._cleanup_steps(), quietly=True)
            raise
        return Played(done + self._clean_up(self._cleanup_steps(), quietly=False))

    def clear(self) -> Played:
        """Only clean up what a stopped run has left."""
        done = self._clean_up(self._cleanup_steps(), quietly=False)
        _remove_if_empty(self.work)
        return Played(done)

    def _fits(self, step: Step, block: Block) -> bool:
        for word in block.conditions:
            if because := conditions.unmet(word):
                self.stage.say(f"step {step.number} is not for this host: {because}")
                return False
        return True

    def _stop(self, step: Step, done: int) -> Played:
        """Save everything for later. Programs in the terminals end here, so their steps are played again."""
        folders = {name: terminal.folder() for name, terminal in self.terminals.items()}
        for terminal in self.terminals.values():
            terminal.close()
        at = progress.resume_at(self.recipe, step.number)
        if at == 1 and not done:
            self.room.close()
            return Played(0, 1)
        progress.save(self.recipe, progress.Progress(at, self.work, folders, self.room.facts()))
        self.room.keep()
        again = f"ctk recipe run {quote(progress.called(self.recipe))}"
        self.stage.say(f"stopped before step {step.number}. To go on: {again}   To clean up: {again} --clean-up")
        return Played(done, at)

    def _cleanup_steps(self) -> list[Step]:
        return [step for step in self.recipe.steps if step.block and step.block.cleanup]

    def _clean_up(self, steps: Sequence[Step], *, quietly: bool) -> int:
        """Run the clean-up blocks. `quietly`: after a failure, raise nothing, because the first error is reported."""
        problem: StepFailed | None = None
        done = 0
        try:
            for step in steps:
                assert step.block is not None
                self.stage.words(step, self.recipe)
                if not self._fits(step, step.block):
                    continue
                try:
                    self._run(step, step.block)
                    done += 1
                except StepFailed as error:
                    problem = problem or error
        finally:
            for terminal in self.terminals.values():
                terminal.close()
            left = self.room.close()
            progress.forget(self.recipe)
            if os.listdir(self.work):  # shown even if the clean-up is interrupted
                self.stage.say(f"what is left is in {self.work}")
        if left:
            because = "the clean-up left " + ", ".join(map(repr, left)) + "; ctk has deleted it"
            problem = problem or StepFailed(f"clean up after {self.recipe.name!r}", because=because)
        if problem is not None and not quietly:
            raise problem
        return done

    def _ask(self, step: Step) -> Answer:
        assert step.block is not None
        if self.options.yes:
            return "run"
        self.stage.preview(step, step.block.commands)
        while (answer := self.stage.ask(step)) == "shell":
            self.stage.say(f"a shell in {self.work}; exit brings you back")
            shell = subprocess.Popen(["bash", "-i"], cwd=self.work, env=self.room.environment, preexec_fn=fresh)
            self.room.group.take(shell.pid)
            shell.wait()
        return answer

    def _terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            size = shutil.get_terminal_size((100, 24))
            folder = self.begin.folders.get(name, self.work)
            self.terminals[name] = Terminal(folder, self.room, self.stage.output, size)
        return self.terminals[name]

    def _run(self, step: Step, block: Block) -> None:
        # A clean-up has a terminal of its own: the others may be in another folder, or still run a program.
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
