"""The commands that go through typer: one of them does not load the others, nor what none of them needs to start."""

from pathlib import Path

import pytest
import typer.main
from typer import _completion_classes

from tests.architecture.test_hot_path import imported
from tests.fixtures.command import Command
from toolkit.cli import complete, with_typer
from toolkit.cli.with_typer import application

WHOLE = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
# pydantic: docs/decisions/0019-typer-without-pydantic.md. The others take 30 to 100 ms each.
SLOW = {"pydantic", "requests", "urllib3", "rich", "pysequoia"}
# What `typing` brings takes as long as the interpreter's own start; json and signal bring half of it.
STANDARD = {"typing", "re", "enum", "functools", "collections", "contextlib", "json", "signal", "dataclasses"}


@pytest.mark.parametrize("name", WHOLE)
def test_a_command_alone_is_that_of_the_whole(name: str) -> None:
    alone = typer.main.get_command(application(name)).commands[name]  # type: ignore[attr-defined]
    there = WHOLE[name]
    assert (alone.help, alone.hidden, alone.epilog) == (there.help, there.hidden, there.epilog)
    assert [(one.name, one.opts) for one in alone.params] == [(one.name, one.opts) for one in there.params]
    assert list(getattr(alone, "commands", ())) == list(getattr(there, "commands", ()))


def test_the_help_has_them_in_the_same_order() -> None:
    """Nothing is left out of it, whatever was looked up before."""
    names = list(typer.main.get_command(application("no-such-command")).commands)  # type: ignore[attr-defined]
    assert names == list(WHOLE)


@pytest.mark.parametrize(
    "words", [["images"], ["image", "check"], ["logs", "--help"], ["pull", "--help"], ["recipe", "list"]], ids=" ".join
)
def test_one_command_starts_without_what_is_slow(words: list[str], ctk: Command) -> None:
    code, names, said = imported(words, ctk.environment)
    assert code == 0, said
    assert {name.partition(".")[0] for name in names} & SLOW == set()
    others = {"toolkit.cli.up", "toolkit.cli.recipes"} - {f"toolkit.cli.{words[0]}s"}
    assert {name for name in names if name.startswith("toolkit.cli.")} & others == set()


@pytest.mark.parametrize(
    "words",
    [
        ["logs", "nosuch"], ["attach", "nosuch"], ["stop", "nosuch"], ["restart", "nosuch"], ["rm", "nosuch"],
        ["cp", "nosuch:/x", "/nosuch/"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_everyday_command_is_read_without_typer_and_runs_without_libraries(words: list[str], ctk: Command) -> None:
    code, names, said = imported(words, ctk.environment)
    assert code == 1, said
    assert {name.partition(".")[0] for name in names} & (SLOW | {"typer", "site", "dataclasses", "inspect"}) == set()
    if words[0] not in ("cp", "restart"):  # a tar's members, and a child that is ctk itself
        assert {name.partition(".")[0] for name in names} & STANDARD == set()


@pytest.mark.parametrize("words", [["inspect", "nosuch"], ["stats", "--no-stream"], ["top", "--json"]], ids=" ".join)
def test_what_looks_at_containers_needs_nothing_slow(words: list[str], ctk: Command) -> None:
    """Libraries draw on a terminal only."""
    _, names, said = imported(words, ctk.environment)
    assert {name.partition(".")[0] for name in names} & (SLOW | STANDARD | {"typer", "site"}) == set(), said


@pytest.mark.parametrize(
    "words",
    [["images"], ["image", "check"], ["stats"], ["explain", "mounts"], ["recipe", "list"], ["up", "/nosuch/x", "y"]],
    ids=" ".join,
)
def test_a_right_command_line_is_read_without_typer(words: list[str], ctk: Command) -> None:
    _, names, said = imported(words, ctk.environment)
    assert "typer" not in names, said


@pytest.mark.parametrize(
    "words",
    [
        ["images"], ["inspect", "nosuch"], ["stats", "--no-stream"], ["pull", "127.0.0.1:1/nosuch"],
        ["copy", "docker://127.0.0.1:1/nosuch", "oci:/nosuch"], ["pack", "/nosuch", "x"], ["commit", "nosuch", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_everyday_commands_make_no_dataclasses(words: list[str], ctk: Command) -> None:
    """Each of them is compiled when it is imported, and the module imports inspect: 15 ms and more.

    From Python 3.13 on, urllib3 brings inspect by itself, through importlib.metadata.
    """
    _, names, said = imported(words, ctk.environment)
    assert "dataclasses" not in names, said


@pytest.mark.parametrize(
    "words", [["pull", "127.0.0.1:1/nosuch"], ["copy", "docker://127.0.0.1:1/nosuch", "oci:/nosuch"]], ids=" ".join
)
def test_a_registry_is_asked_without_requests(words: list[str], ctk: Command) -> None:
    """It and urllib3 take longer to be imported than all the rest of the start (toolkit/fetch/direct.py)."""
    _, names, said = imported(words, ctk.environment)
    assert "http.client" in names and "connection refused" in said
    others = SLOW | {"logging", "mimetypes", "importlib.metadata"}
    assert {name for name in names if name in others or name.partition(".")[0] in SLOW} == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "found"), [("ctk lo", "logs"), ("ctk logs --fol", "--follow"), ("ctk exec --cw", "--cwd")]
)
def test_a_tab_makes_only_what_it_needs(shell: str, words: str, found: str, ctk: Command) -> None:
    environment = {**ctk.environment, "_CTK_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    _, names, said = imported([], environment | (asked if shell == "bash" else {"_TYPER_COMPLETE_ARGS": words}))
    assert found in said
    assert {name.partition(".")[0] for name in names} & SLOW == set(), said
    if words != "ctk lo":
        assert {"toolkit.cli.up", "toolkit.cli.build"} & names == set()


@pytest.mark.parametrize(
    "typed", ["", "lo", "nosuch ", "logs ", "logs --", "image ", "image t", "generate ", "exec --"]
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_tab_offers_what_the_whole_command_line_offers(
    shell: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = f"ctk {typed}"
    monkeypatch.setenv("CTK_ROOT", str(tmp_path))
    monkeypatch.setenv("_CTK_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("COLUMNS", "1000")  # rich wraps its lines there
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setattr(_completion_classes, "_sanitize_help_text", _completion_classes._sanitize_help_text)
    offered = []
    for whole in (True, False):
        if whole:
            monkeypatch.setattr(with_typer, "application", lambda _: application())
        else:
            monkeypatch.setattr(with_typer, "application", application)
            complete.leave_rich_out()
        with pytest.raises(SystemExit):
            with_typer.read([], [])
        offered.append(capsys.readouterr().out)
    assert offered[0] == offered[1]
    assert offered[0] or typed in ("logs ", "nosuch ")


def test_bytes_are_fetched_without_what_guesses_the_encoding_of_texts(ctk: Command) -> None:
    proxied = {**ctk.environment, "https_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    _, names, said = imported(["pull", "registry.invalid/nosuch"], proxied)
    assert "requests.sessions" in names and "charset_normalizer" not in names, said
    assert "Warning" not in said
