"""A command line read without typer has the same command and the same values as with it, or is left to typer."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from toolkit.cli import commands, declare, plain, with_typer
from toolkit.errors import Usage
from toolkit.runtime.options import VERBS

WHOLE = declare.App()
commands.register(WHOLE)
GLOBAL = ["--debug=true"]
WORDS = ("a", "", "-", "2", "1.5", "--", "-x", "--no-such", "-5", "a=b", "--help")


def _commands(app: declare.App, *path: str) -> Iterator[tuple[tuple[str, ...], declare.Command]]:
    for name, command in app.commands.items():
        if name not in VERBS or name == "spec":
            yield (*path, name), command
    for name, (group, _) in app.groups.items():
        yield from _commands(group, *path, name)


COMMANDS = dict(_commands(WHOLE))


def _same(path: tuple[str, ...], words: list[str]) -> bool:
    """Whether the line was read without typer; it fails if typer reads it otherwise."""
    argv = [*path, *words]
    found = plain.read(WHOLE, argv, GLOBAL)
    if found is None:
        return False
    with_it = with_typer.read(argv, GLOBAL)
    assert isinstance(with_it, declare.Call)
    assert with_it.command.function.__name__ == found.command.function.__name__
    assert _plain(with_it) == _plain(found), argv
    return True


def _plain(call: declare.Call) -> dict[str, Any]:
    """The values, with their types; a context's options in place of the context."""
    values = {name: getattr(value, "obj", value) for name, value in call.values.items()}
    return {name: (type(value), value) for name, value in values.items()}


def _options(command: declare.Command) -> Iterator[tuple[str, ...]]:
    """Each option of the command, in its forms, right and wrong."""
    for _, annotation, _ in plain._parameters(command.function):
        for declared in getattr(annotation, "__metadata__", ()):
            if isinstance(declared, declare.Option) and "callback" not in declared.settings:
                for name in itertools.chain.from_iterable(names.split("/") for names in declared.names):
                    yield (name,)
                    yield (name, "7")
                    yield (name, "-1")
                    yield (f"{name}=7",)
                    yield (f"{name}7",)
                    yield (f"{name}=",)
                    yield (name, "word", name, "7")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_it_is_read_as_typer_reads_it(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    # Making typer's commands takes longer than reading a line with them.
    made = typer.main.get_command(with_typer.application(path[0]))
    monkeypatch.setattr(with_typer, "application", lambda _: made)
    lines = [list(words) for count in range(4) for words in itertools.product(WORDS[:6], repeat=count)]
    lines += [[word, *rest] for word in WORDS for rest in ([], ["a"], ["a", "b"])]
    for number, option in enumerate(_options(COMMANDS[path])):
        ways = [[*option], [*option, "a"], ["a", *option], ["a", "b", *option], ["--", *option, "a"]]
        lines += [ways[number % 5], ways[(number + 2) % 5]]  # in turn: all five of each would take seconds more
    assert sum(_same(path, line) for line in lines) >= 1


@pytest.mark.parametrize(
    "words",
    [
        ["logs"], ["logs", "--help"], ["logs", "a", "--no-such"], ["logs", "a", "--tail", "x"], ["logs", "a", "--tail"],
        ["logs", "a", "--follow=1"], ["logs", "-ft", "a"], ["logs", "a", "b"], ["stop", "--time", "-1", "a"],
        ["bootstrap", "--remove", "x"], ["image"], ["image", "nosuch"], ["nosuch"], ["--version"], [],
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert plain.read(WHOLE, words, []) is None


def test_a_mistake_is_one_of_ours() -> None:
    with pytest.raises(Usage, match="missing argument 'ID'"):
        with_typer.read(["logs"], [])
