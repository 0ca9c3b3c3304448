"""Recipes played for real, in shells on pseudo-terminals."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.errors import HostLacks, InUse, Usage
from toolkit.recipe.model import Command, Recipe, Step
from toolkit.recipe.parse import parse
from toolkit.recipe.play import Answer, Options, StepFailed, play


@pytest.fixture(autouse=True)
def records_of_our_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_ROOT", str(tmp_path_factory.mktemp("root") / "ctk"))


class Reader:
    """Somebody who reads along; `answers` are what they say before each step."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen = ""
        self.read: list[str] = []
        self.said: list[str] = []
        self.diff: list[str] = []

    def words(self, step: Step, recipe: Recipe) -> None:
        self.read.append(step.words)

    def preview(self, step: Step, commands: Sequence[Command]) -> None:
        self.said += [command.text for command in commands]

    def command(self, step: Step, command: Command) -> None:
        pass

    def ask(self, _: Step, /) -> Answer:
        return self.answers.pop(0)

    def output(self, text: str) -> None:
        self.seen += text

    def verdict(self, step: Step, problem: str, diff: Sequence[str]) -> None:
        self.diff += diff

    def say(self, text: str) -> None:
        self.said.append(text)


def page(*blocks: str) -> Recipe:
    return parse("# T\n\n" + "\n".join(f"```console {block}\n```\n" for block in blocks), "t.md")


def run(recipe: Recipe, work: Path, reader: Reader | None = None, **options: object) -> int:
    return play(recipe, Options(**{"yes": True, "work": str(work), **options}), reader or Reader()).steps  # type: ignore[arg-type]


def test_a_terminal_keeps_its_folder_and_its_variables_and_two_do_not_share_them(tmp_path: Path) -> None:
    recipe = page(
        "\n$ mkdir d && cd d && x=1\n$ echo $x; basename $PWD\n1\nd",
        'terminal=2\n$ echo "<$x>"; basename $PWD\n<>\n' + tmp_path.name,
    )
    assert run(recipe, tmp_path) == 2


def test_lines_are_typed_into_a_program_at_its_own_prompt(tmp_path: Path) -> None:
    recipe = page(
        "\n$ PS1='in$ ' bash --norc --noprofile\nin$ echo $((6*7))\n42\nin$ exit 3 || true\nexit\n$ echo out\nout"
    )
    with pytest.raises(StepFailed, match="exit code 3"):
        run(recipe, tmp_path)
    recipe = page("\n$ PS1='in$ ' bash --norc --noprofile\nin$ echo $((6*7))\n42\nin$ exit\nexit\n$ echo out\nout")
    assert run(recipe, tmp_path) == 1


def test_a_program_may_stay_while_another_terminal_looks_at_it(tmp_path: Path) -> None:
    recipe = page(
        "stays\n$ PS1='in$ ' bash --norc --noprofile\nin$ touch here\n",
        "terminal=2\n$ ls\nhere",
        "\nin$ exit\nexit\n$ rm here",
    )
    assert run(recipe, tmp_path) == 3


def test_wrong_output_fails_with_the_difference_and_the_line(tmp_path: Path) -> None:
    reader = Reader()
    with pytest.raises(StepFailed, match=r"step 1 of 't' \(t.md line 3\): echo two") as caught:
        run(page("\n$ echo two\none"), tmp_path, reader)
    assert reader.diff == ["- one", "+ two"]
    assert caught.value.because == "the output is not the one that the recipe shows"


def test_an_exit_code_counts_and_expect_fail_turns_it_round(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="exit code 1"):
        run(page("\n$ false"), tmp_path)
    assert run(page("expect-fail\n$ echo no; false\nno"), tmp_path) == 1
    with pytest.raises(StepFailed, match="should have failed"):
        run(page("expect-fail\n$ true"), tmp_path)


def test_the_clean_up_runs_after_a_failure_and_the_first_error_is_told(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="exit code 7"):
        run(page("\n$ touch left; exit_code() { return 7; }; exit_code", "cleanup\n$ rm left\n$ false"), tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_clean_up_runs_after_an_interrupt(tmp_path: Path) -> None:
    class Impatient(Reader):
        def ask(self, _: Step, /) -> Answer:
            raise KeyboardInterrupt

    recipe = page("\n$ touch one", "\n$ touch two", "cleanup\n$ rm -f one two; touch cleaned")
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, Impatient(), yes=False)
    assert os.listdir(tmp_path) == ["cleaned"]


def test_who_interrupts_the_clean_up_too_is_told_what_stays(tmp_path: Path) -> None:
    class Impatient(Reader):
        def command(self, step: Step, command: Command) -> None:
            if "rm" in command.text:
                raise KeyboardInterrupt

    reader = Impatient()
    with pytest.raises(KeyboardInterrupt):
        run(page("\n$ touch one", "cleanup\n$ rm -f one"), tmp_path, reader)
    assert os.listdir(tmp_path) == ["one"]
    assert f"what is left is in {tmp_path}" in reader.said


def test_who_quits_goes_on_later_where_he_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    work = tmp_path / "work"
    recipe = page(
        "\n$ mkdir d && cd d",
        "stays\n$ PS1='in$ ' bash --norc --noprofile\nin$ touch ../started$(ls .. | wc -l)\n",
        "terminal=2\n$ touch two",
        "\nin$ exit\nexit\n$ basename $PWD\nd",
        "cleanup\n$ rm -rf *; touch cleaned",
    )
    assert run(recipe, work, Reader("run", "run", "run", "quit"), yes=False) == 3
    assert sorted(os.listdir(work)) == ["d", "started1", "two"]
    # What was typed into is gone with its terminal: its step comes again, in the folder that the terminal was in.
    played = play(recipe, Options(), Reader("run", "skip", "run"))
    assert (played.steps, played.stopped_at) == (3, 0)
    assert os.listdir(work) == ["cleaned"]
    os.unlink(work / "cleaned")
    assert run(recipe, work, Reader("run", "quit"), yes=False) == 1
    assert play(recipe, Options(clean_up=True), Reader()).steps == 1
    assert not os.path.exists(work / "d")
    with pytest.raises(Usage, match="no run of it was stopped"):
        play(recipe, Options(clean_up=True), Reader())


def test_two_pages_of_one_name_do_not_clean_up_after_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    recipe = page("\n$ touch one", "\n$ true", "cleanup\n$ rm one")
    other = replace(recipe, path=str(tmp_path / "t.md"))
    reader = Reader("run", "quit")
    run(recipe, tmp_path / "work", reader, yes=False)
    assert f"ctk recipe run {os.path.abspath('t.md')} " in reader.said[-1]
    with pytest.raises(Usage, match="no run of it was stopped"):
        play(other, Options(clean_up=True), Reader())
    assert (tmp_path / "work/one").exists()
    assert play(recipe, Options(clean_up=True), Reader()).steps == 1


def test_a_run_that_was_stopped_is_cleaned_up_before_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    recipe = page("\n$ test ! -e one && touch one", "\n$ true", "cleanup\n$ rm one")
    run(recipe, tmp_path / "work", Reader("run", "quit"), yes=False)
    assert play(recipe, Options(yes=True, restart=True), Reader()).steps == 3
    assert not os.path.exists(tmp_path / "work")


def test_a_block_is_left_out_where_the_host_does_not_fit(tmp_path: Path) -> None:
    reader = Reader()
    recipe = page("if=no-such-program\n$ touch one", "if=sh,!no-such-program\n$ touch two")
    assert run(recipe, tmp_path, reader) == 1
    assert os.listdir(tmp_path) == ["two"]
    assert "step 1 is not for this host: the program 'no-such-program' is not installed" in reader.said


def test_a_condition_may_be_a_file(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    work = tmp_path / "work"
    done = run(page(f"if={there},!{gone}\n$ touch one", f"if={gone}\n$ touch two", f"if=!{there}\n$ touch three"), work)
    assert (done, os.listdir(work)) == (1, ["one"])


def test_a_recipe_says_what_the_host_lacks_before_it_begins(tmp_path: Path) -> None:
    recipe = parse("# T\n<!-- needs: sh dockerd-of-nobody -->\n```console\n$ touch one\n```\n", "t.md")
    with pytest.raises(HostLacks, match="dockerd-of-nobody") as caught:
        run(recipe, tmp_path)
    assert caught.value.hint == "sudo apt-get install dockerd-of-nobody"
    assert os.listdir(tmp_path) == []


def test_a_failing_clean_up_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="step 2"):
        run(page("\n$ true", "cleanup\n$ false"), tmp_path)


def test_a_step_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no end within 1 s"):
        run(page("timeout=1\n$ sleep 60", "cleanup\n$ true"), tmp_path)


def test_skipping_starting_later_and_a_dry_run(tmp_path: Path) -> None:
    recipe = page("\n$ touch one", "\n$ touch two")
    assert run(recipe, tmp_path, Reader("skip", "run"), yes=False) == 1
    assert os.listdir(tmp_path) == ["two"]
    os.unlink(tmp_path / "two")
    reader = Reader()
    assert run(recipe, tmp_path, reader, dry_run=True) == 0
    assert (reader.said, os.listdir(tmp_path)) == (["touch one", "touch two"], [])
    assert run(recipe, tmp_path, first=2) == 1
    assert os.listdir(tmp_path) == ["two"]


def test_what_stands_before_the_first_step_is_shown(tmp_path: Path) -> None:
    steps = "## One\n```console\n$ true\n```\nBetween.\n## Two\nIn front.\n```console\n$ true\n```\n"
    recipe = parse("# T\n\nWhat it costs.\n\n" + steps, "t.md")
    reader = Reader()
    run(recipe, tmp_path, reader)
    assert reader.read == ["What it costs.", "", "Between.", "In front."]
    reader = Reader()
    run(recipe, tmp_path, reader, first=2)
    assert reader.read == ["Between.", "In front."]


def test_what_was_started_in_the_foreground_does_not_outlive_the_recipe(tmp_path: Path) -> None:
    recipe = page("stays\n$ PS1='in$ ' bash --norc --noprofile\nin$ echo $$ > pid\n")
    run(recipe, tmp_path)
    pid = int((tmp_path / "pid").read_text())
    # Killed, but a busy machine takes its time to bury it.
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def test_a_page_means_the_same_for_every_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader's own shell is set up with would make commands fail, or print something else."""
    for name, text in {
        "TMPDIR": "/nowhere",
        "LANG": "de_DE.UTF-8",
        "LC_MESSAGES": "de_DE.UTF-8",
        "BASH_ENV": "/dev/stdin",
        "BASH_FUNC_ls%%": "() { echo mine; }",
        "GREP_OPTIONS": "-v",
        "CDPATH": "/usr",
        "POSIXLY_CORRECT": "1",
        "PYTHONPATH": "/nowhere",
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
    }.items():
        monkeypatch.setenv(name, text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/touch").write_text("#!/bin/sh\n")
    (tmp_path / "bin/touch").chmod(0o755)
    recipe = page(
        "\n$ echo ${TMPDIR:-none} ${LC_ALL:-$LANG} ${BASH_ENV:-none} ${CDPATH:-none} ${PYTHONPATH:-none}\n"
        "none C none none none\n$ touch a; ls\na\n$ stat -c %a a\n644\n$ command -v chroot\n/usr/sbin/chroot",
        "cleanup\n$ rm a",
    )
    before = os.umask(0o077)
    try:
        assert run(recipe, tmp_path / "work") == 2
    finally:
        os.umask(before)


def test_a_clean_up_never_meets_a_readers_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(InUse, match="it is not empty"):
        run(page("\n$ true", "cleanup\n$ rm -f config.json"), tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_what_may_not_be_there_at_the_start_may_be_when_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    made = tmp_path / "made"
    text = f"# T\n<!-- needs: !{made} -->\n```console\n$ touch {made}\n```\n```console\n$ true\n```\n"
    recipe = parse(text + f"```console cleanup\n$ rm {made}\n```\n", "t.md")
    assert run(recipe, tmp_path / "work", Reader("run", "quit"), yes=False) == 1
    assert play(recipe, Options(yes=True), Reader()).steps == 2
    made.touch()
    with pytest.raises(HostLacks, match="is here"):
        run(recipe, tmp_path / "other")


def test_all_that_the_host_lacks_is_told_at_once_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("toolkit.recipe.conditions.subids.of_caller", lambda: ([(0, 1000, 1)], [(0, 1000, 1)]))
    recipe = parse("# T\n<!-- needs: subordinate-ids no-such-program -->\n```console\n$ true\n```\n", "t.md")
    with pytest.raises(HostLacks, match=r"no 65535 subordinate ids.*'no-such-program' is not installed"):
        run(recipe, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_recipe_that_needs_root_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostLacks, match="need root") as caught:
        run(page("\n# true"), tmp_path)
    assert caught.value.hint == f"sudo ctk recipe run {os.path.abspath('t.md')}"
    assert run(page("\n$ true"), tmp_path) == 1


def test_two_players_never_go_on_with_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    recipe = page("\n$ touch one", "\n$ true", "cleanup\n$ rm one")
    run(recipe, tmp_path / "work", Reader("run", "quit"), yes=False)

    class Second(Reader):
        def ask(self, _: Step, /) -> Answer:
            with pytest.raises(InUse, match="played just now"):
                play(recipe, Options(clean_up=True), Reader())
            return "run"

    assert play(recipe, Options(), Second()).steps == 2
    assert not os.path.exists(tmp_path / "work")
