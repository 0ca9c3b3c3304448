"""Tab, asked of the real shells: installed the documented way, typed as people type."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.terminal import Terminal

# What is typed before Tab → what stands there after it.
TYPED = {
    "ctk boots": "bootstrap",
    "ctk spec --share": "--share-net",
    "ctk up jam": "jammy",
    "ctk bootstrap sid ./r --variant minb": "minbase",
    "ctk recipe run namesp": "namespaces",
    "ctk stop some-c": "some-container",
}
# How each is started so that it reads what the installation wrote, and shows a prompt that we know.
SHELLS = {"bash": ["--noprofile", "-i"], "zsh": ["-i"]}


@pytest.fixture
def home(tmp_path: Path, ctk: Command) -> dict[str, str]:
    """The environment of a person with a new home, a container, and `ctk` in the PATH."""
    (tmp_path / "records/some-container").mkdir(parents=True)
    path = f"{os.path.dirname(ctk.program)}:{os.environ['PATH']}"
    kept = {name: value for name, value in ctk.environment.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": str(tmp_path), "PATH": path, "CTK_ROOT": str(tmp_path / "records"), "TERM": "xterm"}


def install(shell: str, home: dict[str, str]) -> None:
    """As the README has it, typed in that shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(  # the second command keeps the shell from becoming the first one
        [shell, "-c", "ctk --install-completion; true"], env=home, capture_output=True, text=True, timeout=60
    )
    assert f"{shell} completion installed in {home['HOME']}/" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_on_a_terminal(shell: str, home: dict[str, str], terminal: Callable[..., Terminal]) -> None:
    install(shell, home)
    screen = terminal([shell, *SHELLS[shell]], env=home, cwd=home["HOME"], columns=120)
    screen.send("PS1='rea''dy> '\r")
    screen.read_until("ready> ")
    for typed, word in TYPED.items():
        screen.send(typed + "\t")
        screen.read_until(word.removeprefix(typed.split()[-1]), 30)
        screen.send("\x15")  # Ctrl-U: a new line


def test_tab_in_fish(home: dict[str, str], ctk: Command) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    told = ctk("--install-completion", "fish", env={"HOME": home["HOME"]}).ok().out
    assert f"fish completion installed in {home['HOME']}/" in told
    for typed, word in TYPED.items():
        asked = subprocess.run(
            ["fish", "-c", f"complete -C '{typed}'"],
            env=home,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=home["HOME"],
        )
        assert [line.split("\t")[0] for line in asked.stdout.splitlines()] == [word], typed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_be_named(shell: str, home: dict[str, str], ctk: Command) -> None:
    shown = ctk(f"--show-completion={shell}").ok().out
    ctk("--install-completion", shell, env={"HOME": home["HOME"]}).ok()
    made = {".bash_completions/ctk.sh", ".zfunc/_ctk", ".config/fish/completions/ctk.fish"}
    (found,) = (path for name in made if (path := Path(home["HOME"], name)).exists())
    assert found.read_text().strip() == shown.strip() and shell in str(found).replace(".zfunc", "zsh")
    if shutil.which(shell):
        subprocess.run([shell, "-n", found], check=True)


def test_another_shell_is_an_error_that_names_them(ctk: Command, home: dict[str, str]) -> None:
    done = ctk("--install-completion", "tcsh", env={"HOME": home["HOME"]})
    assert done.rc == 1 and "'tcsh'" in done.err and "bash|zsh|fish" in done.err
    assert not list(Path(home["HOME"]).rglob("*ctk*"))
