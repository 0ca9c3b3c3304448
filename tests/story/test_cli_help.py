"""The command line as somebody meets it: help, wrong words, exit codes."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main

from tests.fixtures.command import Bundle, Command
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until
from toolkit.cli import pages
from toolkit.cli.with_typer import application
from toolkit.runtime.help import render
from toolkit.runtime.options import VERBS


def test_help_lists_every_command_in_its_group(ctk: Command) -> None:
    shown = ctk("--help").ok().out
    at = [shown.index(f"\n{group}:\n") for group in ("Build", "Describe", "Run", "Learn")]
    assert at == sorted(at)
    run = shown[at[2] : at[3]]
    for verb in VERBS:
        assert f" {verb} " in (shown[at[1] : at[2]] if verb == "spec" else run)
    for command, begins, ends in (("bootstrap", 0, 1), ("up", 0, 1)):
        assert f" {command} " in shown[at[begins] : at[ends]]
    assert " recipe " in shown[at[3] :]


def test_no_word_at_all_shows_a_first_days_help(ctk: Command) -> None:
    told = ctk().ok().out
    assert len(told.splitlines()) <= 14
    assert "ctk up bookworm my-cont" in told and "ctk --help" in told
    assert "Start here" in ctk("--help").ok().out


def _commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from _commands(command, *path, name) if hasattr(command, "commands") else ()


def test_names_are_whole_in_the_help_of_every_command_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    whole = typer.main.get_command(application())
    seen = 0
    for path, command in [((), whole), *_commands(whole)]:
        if path and path[0] in VERBS and path[0] != "spec":
            shown = render("ctk", path[0], 80)
            names = [f"--{option[0]}" for option in VERBS[path[0]][5]]
        else:
            context = typer.Context(command, info_name=" ".join(("ctk", *path)))
            shown = command.get_help(context)
            options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
            names = [name for one in options for name in (*one.opts, *one.secondary_opts)]
        words = set(re.split(r"[\s,]+", shown))
        assert not set(names) - words, path
        # Lines to copy are not broken.
        examples = (command.epilog or shown.partition("EXAMPLE:\n")[2].partition("OPTIONS:")[0]).splitlines()
        assert max(len(line) for line in shown.splitlines() if line not in examples) <= 80, path
        seen += len(names)
    assert seen > 250


@pytest.mark.parametrize(
    "command",
    ["bootstrap", "up", "spec", "recipe", "check", "explain", "inspect", "stats", "top", "diff", "doctor", "gc"],
)
def test_the_help_of_a_command_has_an_example(ctk: Command, command: str) -> None:
    assert f"ctk {command} " in ctk(command, "--help").ok().out.partition("Example")[2]


@pytest.mark.parametrize(
    ("words", "because", "hint"),
    [
        (["recpe"], "no such command 'recpe'", "did you mean 'recipe'?"),
        (["up", "bookworm", "x", "-p", "80:80"], "no such option: -p", "--share-net uses the host's network"),
        (["up", "bookworm", "x", "-it"], "no such option: -i", "a terminal if you have one: ctk up SUITE NAME --"),
        (["rmi", "x"], "no such command 'rmi'", "ctk bootstrap --remove DIR"),
        (["save", "debian"], "no such command 'save'", "ctk copy IMAGE docker-archive:FILE:NAME"),
        (["image", "pull", "debian"], "no such command 'pull'", "ctk pull IMAGE"),
        (["image", "load", "-i", "x.tar"], "no such command 'load'", "ctk copy docker-archive:FILE store:NAME"),
        (["copy", "--src-tls-verify=false", "a", "b"], "no such option: --src-tls-verify", "--plain-http HOST[:PORT]"),
        (["unpack", "--image", "x:y", "b"], "no such option: --image", "ctk unpack oci:DIR:TAG --bundle BUNDLE"),
        (["pull", "--arch", "arm64", "debian"], "no such option: --arch", "--platform OS/ARCH"),
        (["run", "-it", "debian", "bash"], "not defined: -it", "ctk up IMAGE NAME -- COMMAND"),
        (["up", "ubuntu"], "missing argument 'ID'", "as in sudo ctk up bookworm web"),
        (["recipe", "shwo"], "no such command 'shwo'", "did you mean 'show'?"),
        (["bootstrap"], "missing argument 'SUITE'", "see ctk bootstrap --help"),
        (["bootstrap", "bookworm", "x", "--varient=minbase"], "no such option: --varient", "did you mean --variant?"),
        (["spec", "--memory"], "option '--memory' requires an argument", "see ctk --help"),
        (["recipe", "show", "frist-container"], "there is no recipe of that name", "did you mean 'first-container'?"),
        (["recipe", "show", "first"], "there is no recipe of that name", "did you mean 'first-container'?"),
        (["up", "bookworm", "a/b"], "it has other characters", "letters, digits"),
        (["bootstrap", "bookworm"], "there is no TARGET", "ctk bootstrap bookworm ./bookworm"),
        (["bootstrap", "bookworm"], "there is no TARGET", "for a tar on standard output, ctk bootstrap bookworm -"),
        (
            ["bootstrap", "bookworm", "x", "http://m", "deb http://n s main"],
            "is a second mirror or source",
            "--source 'deb",
        ),
        (["bootstrap", "bookworm", "x", "--mode=unshare"], "no such option: --mode", "leave it out: root builds"),
        (["bootstrap", "bookworm", "x", "--simulate"], "no such option: --simulate", "use --print-debs"),
        (["bootstrap", "bookwrom", "./x"], "bookworm", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_get_one_error_and_a_hint(
    ctk: Command, tmp_path: Path, words: list[str], because: str, hint: str
) -> None:
    done = ctk(*words, cwd=tmp_path)
    assert done.rc == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert lines[0].startswith("ctk: ")
    assert because in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]
    assert "Traceback" not in done.err


def test_a_person_is_not_told_runcs_words_for_an_unknown_command(
    ctk: Command, terminal: Callable[..., Terminal]
) -> None:
    typed = terminal(ctk.argv("ls"), env=ctk.environment, columns=200)
    assert typed.wait() == 1
    told = re.sub(r"\x1b\[[\d;]*m", "", typed.shown)
    assert told.splitlines() == ["ctk: read the command line of 'ctk': no such command 'ls'", "hint: ctk list"]
    assert "No help topic for 'ls'" in ctk("ls").err


def test_an_error_is_the_last_event_of_json_output(ctk: Command, tmp_path: Path) -> None:
    done = ctk("bootstrap", "bookwrom", "./x", "--json", cwd=tmp_path)
    assert done.rc == 1
    event = json.loads(done.out.splitlines()[-1])
    assert event["event"] == "failed"
    assert "bookwrom" in event["doing"]
    assert done.err == ""


def test_the_version_is_the_packages(ctk: Command) -> None:
    from toolkit import __version__

    assert __version__ in ctk("--version").ok().out


def test_a_reader_that_goes_away_is_no_error_to_tell(ctk: Command) -> None:
    with ctk.popen("recipe", "show", "first-container", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 141)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_recipe_after_its_clean_up(ctk: Command, tmp_path: Path, number: int, code: int) -> None:
    page = tmp_path / "page.md"
    page.write_text("# T\n```console\n$ touch began; sleep 60\n```\n```console cleanup\n$ touch cleaned\n```\n")
    work = tmp_path / "work"
    process = ctk.popen("recipe", "run", "--yes", "--work", str(work), str(page), stdout=subprocess.DEVNULL)
    until((work / "began").exists, "the first command", of=process)
    process.send_signal(number)
    assert process.wait(30) == code
    assert sorted(os.listdir(work)) == ["began", "cleaned"]


def test_the_list_of_recipes(ctk: Command) -> None:
    told = ctk("recipe", "list").ok().out
    needs = {
        name: told.partition(f" {name} ")[2].splitlines()[1].split(", ") for name in ("first-container", "rootless")
    }
    assert [word.strip() for word in needs["first-container"]] == ["1 min", "root"]
    assert {"user", "subordinate-ids"} <= set(needs["rootless"])


def test_a_recipe_can_be_read_and_rehearsed(ctk: Command) -> None:
    assert ctk("recipe", "show", "1").ok().out.startswith("# Your first container")
    shown = ctk("recipe", "run", "first-container", "--dry-run").ok().out
    assert "ctk bootstrap" in shown
    assert "ctk run my-cont" in shown


def test_global_options_stand_before_the_commands_of_either_door(
    ctk: Command, busybox_bundle: Bundle, tmp_path: Path
) -> None:
    name, root, log = ctk.id(), str(tmp_path / "elsewhere"), str(tmp_path / "log")
    everywhere = ("--root", root, "--debug")
    ctk(*everywhere, "run", "-d", "--hold", "-b", str(busybox_bundle.sh("echo hello; exec sleep 600")), name).ok()
    try:
        assert name not in ctk("list", "-q").ok().out
        assert ctk(*everywhere, "inspect", "--json", name).ok().json()["id"] == name
        assert until(lambda: ctk(*everywhere, "logs", name).ok().out, "the output") == "hello\n"
        assert ctk(*everywhere, "stop", "--time", "0", name).ok().out == name + "\n"
        assert ctk("--root=" + root, "rm", name).ok().out == name + "\n"
        gone = ctk("--root", root, "--log", log, "--log-format=json", "attach", name)
        assert gone.rc == 1 and "does not exist" in gone.err
        assert "does not exist" in json.loads(Path(log).read_text())["msg"]
    finally:
        ctk("--root", root, "delete", "--force", name)


@pytest.mark.parametrize("opts", [["-h", "--help"], ["--help", "-h"]])
def test_the_names_of_an_option_have_one_order(opts: list[str]) -> None:
    """click keeps those of --help in a set."""
    assert pages.names(SimpleNamespace(opts=opts, secondary_opts=[], is_flag=True)) == "--help, -h"
