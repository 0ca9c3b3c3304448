"""ctk.c's program and scripts/ctk do the same: become `python3 -I -S -X utf8 LAUNCH SELF ARGUMENTS`, or say why not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import tool
from tests.fixtures.launchers import FORMS, PROGRAMS, TOP, Installation

# A Python that tells how it was started; the kernel puts `-IS` and its path before what the launcher gave.
TELLS = f"""#!{os.path.realpath(sys.executable)} -IS
import json, os, sys
seen = {{"argv": sys.argv, "environment": dict(os.environ), "open": []}}
for fd in range(3):
    try:
        os.fstat(fd)
        seen["open"].append(fd)
    except OSError:
        pass
with open(os.environ["TOLD"], "w") as file:
    json.dump(seen, file)
"""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def installation(tmp_path: Path, form: str) -> Installation:
    made = Installation(tmp_path / "prefix", form)
    program(made.prefix / "bin/python3", TELLS)
    return made


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def told(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "told").read_text())


def test_words_and_environment_are_handed_on(installation: Installation, tmp_path: Path, form: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/runc").symlink_to("../second")
    (tmp_path / "second").symlink_to(installation.command)
    kept = {"A": "b=c", "EMPTY": "", "PYTHONPATH": "/z", "PYTHONEXECUTABLES": "x", "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8", "TOLD": str(tmp_path / "told")}  # fmt: skip
    gone = {"PYTHONEXECUTABLE": "/x", "__PYVENV_LAUNCHER__": "/y", "CTK_ARGV0": "old"}
    arguments = ["state", "", "a  b", "*", "-I", "\udcff"]
    done = installation.run(*arguments, called=tmp_path / "a/runc", env={**gone, **kept}, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seen = told(tmp_path)
    folder = installation.prefix / "bin"
    words = ["-I", "-S", "-X", "utf8", f"{folder}/../share/ctk/launch.py", f"{folder}/ctk"]
    assert seen["argv"] == [f"{folder}/python3", *words, *arguments]
    # A shell has variables of its own.
    environment = {name: text for name, text in seen["environment"].items() if name not in ("PWD", "OLDPWD", "_")}
    assert environment == {**kept, "CTK_ARGV0": str(tmp_path / "a/runc")}


def test_the_name_is_what_the_caller_says(tmp_path: Path) -> None:
    """As with runc and crun: `exec -a runc`, or an engine that executes a file by another name."""
    machine = os.uname().machine
    if machine not in PROGRAMS:
        pytest.skip(f"no launcher for {machine}; the kernel tells a script its path only")
    made = Installation(tmp_path / "prefix", machine)
    program(made.prefix / "bin/python3", TELLS)
    for name in ("runc", ""):
        # In a session of its own: else Python 3.13 takes posix_spawn(3), and no empty word with it.
        environment = {"TOLD": str(tmp_path / "told")}
        subprocess.run([name], executable=made.command, env=environment, check=True, start_new_session=True)
        assert told(tmp_path)["environment"]["CTK_ARGV0"] == name


@pytest.mark.parametrize("folders", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_folder_as_a_standard_stream_is_closed(
    installation: Installation, tmp_path: Path, folders: tuple[int, ...]
) -> None:
    fd = os.open("/", os.O_RDONLY)
    streams = {name: fd for number, name in enumerate(("stdin", "stdout", "stderr")) if number in folders}
    others = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr") if name not in streams}
    environment = {**os.environ, "TOLD": str(tmp_path / "told")}
    done = installation.run(capture_output=False, env=environment, **streams, **others)
    os.close(fd)
    assert done.returncode == 0
    assert told(tmp_path)["open"] == [number for number in range(3) if number not in folders]


@pytest.mark.parametrize("form", PROGRAMS)
def test_nothing_is_said_where_the_callers_folder_was_removed(form: str, tmp_path: Path) -> None:
    """Every shell says "getcwd() failed" before it reads its first line: in a container's standard error."""
    made = Installation(tmp_path / "prefix", form)
    program(made.prefix / "bin/python3", TELLS)
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    environment = {**os.environ, "TOLD": str(tmp_path / "told")}
    argv = [tool("bash"), "-c", script, "bash", *made.words, str(made.command)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert told(tmp_path)["argv"][-1] == str(made.command)


def test_a_copy_of_the_command_alone_says_what_is_missing(installation: Installation) -> None:
    installation.launch.unlink()
    done = installation.run()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (127, "", 1)
    assert done.stderr.startswith("ctk: can't read ") and "install ctk again" in done.stderr


@pytest.mark.parametrize("form", PROGRAMS)
def test_arguments_that_leave_no_room_are_told(form: str, tmp_path: Path) -> None:
    made = Installation(tmp_path / "prefix", form)
    program(made.prefix / "bin/python3", TELLS)
    name = "x" * ((1 << 17) - 5)  # one word may have 128 KiB; CTK_ARGV0= comes before it
    words = [*made.words, "-0"] if made.words else []
    argv = [*words, name, *([str(made.command)] if words else [])]
    done = subprocess.run(argv, executable=None if words else made.command, capture_output=True, text=True, env={})
    python = made.prefix / "bin/python3"
    assert (done.returncode, done.stderr) == (126, f"ctk: start {python}: argument list too long\n")


def test_it_opens_no_file(tmp_path: Path) -> None:
    """Before Python is there, it looks at its own name, three descriptors and whether one file can be read."""
    machine = os.uname().machine
    if machine not in PROGRAMS:
        pytest.skip(f"no launcher for {machine}")
    made = Installation(tmp_path / "prefix", machine)
    (made.prefix / "bin/python3").symlink_to("/bin/true")
    argv = [tool("strace"), "-o", str(tmp_path / "trace"), str(made.command)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=60)
    before = (tmp_path / "trace").read_text().split("execve(")[1]
    assert re.findall(r"^(\w+)\(", before, re.MULTILINE) == ["fstat", "fstat", "fstat", "readlinkat", "faccessat"]


@pytest.mark.root
def test_which_python_is_taken(tmp_path: Path, form: str) -> None:
    """In a root of its own: the host has a /usr/bin/python3. It has no /proc, which tells the program its name."""
    root = tmp_path / "root"
    made = Installation(root / "opt/here", form)
    (root / "bin").mkdir()
    shutil.copy(tool("busybox"), root / "bin/busybox")
    for name in ("sh", "readlink"):
        (root / "bin" / name).symlink_to("busybox")
    words = []
    if made.words:
        shutil.copy(made.words[0], root / "bin/qemu")
        words = ["/bin/qemu"]
    (root / "links").mkdir()
    (root / "links/runc").symlink_to("../opt/ctk")
    (root / "opt/ctk").symlink_to("here/bin/ctk")
    tells = "#!/bin/sh\necho $0 $6\n"
    places = ["/opt/here/bin/python3", "/opt/here/bin/../.venv/bin/python3", "/usr/bin/python3",
              "/usr/local/bin/python3", "/first/python3", "/second/python3"]  # fmt: skip
    for place in (*places, "/relative/python3", "/python3"):
        (root / os.path.normpath(place).lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        program(root / os.path.normpath(place).lstrip("/"), tells)
    environment = {"PATH": f"relative::./relative:/{'x' * 5000}:/none:/first:/second:/bin"}

    def started() -> Any:
        argv = [tool("chroot"), str(root), *words, "/links/runc", "list"]
        return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)

    for number, place in enumerate(places):
        path = root / os.path.normpath(place).lstrip("/")
        seen = [os.path.normpath(word) for word in started().stdout.split()]
        assert seen == [os.path.normpath(place), "/opt/here/bin/ctk"]
        # One that is there, but can't be run, is passed over.
        path.unlink()
        if number % 3 == 0:
            path.write_text(tells)
        elif number % 3 == 1:
            path.mkdir()
        else:
            path.symlink_to("nowhere")
    done = started()
    assert (done.returncode, done.stdout) == (127, "")
    assert re.fullmatch("ctk: start python3: none .*; install Python 3.11 or newer\n", done.stderr)
    environment.clear()
    assert started().returncode == 127


def test_a_checkouts_script_finds_its_other_half(tmp_path: Path) -> None:
    program(tmp_path / ".venv/bin/python3", TELLS)
    (tmp_path / "scripts/launcher").mkdir(parents=True)
    for name in ("ctk", "launcher/launch.py"):
        shutil.copy(TOP / "scripts" / name, tmp_path / "scripts" / name)
    environment = {**os.environ, "TOLD": str(tmp_path / "told")}
    subprocess.run(["scripts/ctk", "list"], cwd=tmp_path, check=True, env=environment, timeout=60)
    words = told(tmp_path)["argv"]
    assert words[-3:] == ["scripts/launcher/launch.py", "scripts/ctk", "list"]
