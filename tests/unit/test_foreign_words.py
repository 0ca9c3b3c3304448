"""The table of other tools' words: none is a word of ours, and what it says to type exists."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from toolkit.cli import foreign_words
from toolkit.cli.with_typer import application
from toolkit.runtime.options import VERBS


def _commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        yield from _commands(command, *path, name) if hasattr(command, "commands") else ()


_NAME = "((?:image |cache |generate )?[a-z]+)"
COMMANDS = dict(_commands(typer.main.get_command(application())))


def _options(command: str) -> set[str]:
    found = {name for one in COMMANDS[command].params for name in (*one.opts, *one.secondary_opts)}
    return found | {f"--{option[0]}" for option in VERBS[command][5]} if command in VERBS else found


def test_no_foreign_word_is_one_of_ours() -> None:
    assert not set(foreign_words.INSTEAD) & set(COMMANDS)
    for command, options in foreign_words.OPTIONS.items():
        assert not set(options) & _options(command), command


def test_what_is_to_be_typed_exists() -> None:
    texts = [
        *foreign_words.INSTEAD.values(),
        *(text for one in foreign_words.OPTIONS.values() for text in one.values()),
    ]
    named = [found for text in texts for found in re.findall(rf"ctk {_NAME}", text)]
    assert len(named) > 50 and not set(named) - set(COMMANDS) - set(VERBS)
    for text in texts:
        assert len(text) < 150, "it is one line"
        for command, option in re.findall(rf"ctk {_NAME}[^;,(]*? (--[a-z-]+)", text):
            assert option in _options(command), text


def test_words_of_a_group_are_found_in_both_places() -> None:
    assert foreign_words.instead("load", "image") == foreign_words.instead("load") != ""
    assert foreign_words.instead("load", "cache") == "" == foreign_words.instead("no-such-word", "image")


def test_a_word_at_the_wrong_place_is_told_the_right_one() -> None:
    assert foreign_words.instead("tags").startswith("ctk image tags")
    assert foreign_words.instead("build", "image").startswith("ctk build")
    assert foreign_words.instead("insert") and foreign_words.instead("config")
