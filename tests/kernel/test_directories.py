"""Directories and files that a program makes in a root: the same as kernel/beneath.py makes, which is the judge."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from toolkit.errors import SystemCall
from toolkit.kernel import beneath
from toolkit.kernel.program.program import Label, Program
from toolkit.runtime.directories import Directories

Outcome = tuple[str, list[str]]


def judged(root: Path, path: str, kind: str) -> Outcome:
    """What kernel/beneath.py makes: (the path that it opened in the root, or the error; the tree)."""
    fd = os.open(root, os.O_PATH)
    try:
        make = beneath.make_directories if kind == "directory" else beneath.make_file
        found = make(fd, path, 0o755)
        opened = os.readlink(f"/proc/self/fd/{found}")
        os.close(found)
    except SystemCall as error:
        return error.because, tree(root)
    except OSError as error:
        return os.strerror(error.errno or 0).lower(), tree(root)
    finally:
        os.close(fd)
    return opened.removeprefix(str(root)) or "/", tree(root)


def made(root: Path, path: str, kind: str, image: Path) -> Outcome:
    """The same by a program."""
    p = Program(2)
    top, found = p.cell(), p.cell()
    p.call("umask", 0o22)
    p.call("openat", -100, str(root), os.O_PATH | os.O_CLOEXEC, 0, result=top)
    directories = Directories(p, top)
    (directories.make if kind == "directory" else directories.make_file)(path, found)
    p.call("dup3", found, 10, 0)
    p.call("execve", "/bin/readlink", p.strings(["readlink", "-n", "/proc/self/fd/10"]), p.strings([]))
    image.write_bytes(p.image())
    image.chmod(0o755)
    done = subprocess.run([image], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    if done.returncode:
        assert len(done.stderr) == 12, done.stderr
        error = p.failure(int.from_bytes(done.stderr[4:8], "little"), int.from_bytes(done.stderr[8:], "little"))
        return error.because, tree(root)
    return done.stdout.decode().removeprefix(str(root)) or "/", tree(root)


def tree(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            link = f" -> {os.readlink(path)}" if os.path.islink(path) else ""
            found.append(f"{path.removeprefix(str(root))} {os.lstat(path).st_mode:o}{link}")
    return sorted(found)


def build(root: Path, entries: dict[str, str]) -> Path:
    """A root with these entries: "/" a folder, "" a file, anything else the target of a link."""
    root.mkdir()
    for name, what in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "/":
            path.mkdir(exist_ok=True)
        elif what:
            path.symlink_to(what)
        else:
            path.touch()
    return root


LONG = "x" * 255
CASES: "dict[str, tuple[dict[str, str], str]]" = {
    "nothing is missing": ({"a/b": "/"}, "/a/b"),
    "the root": ({}, "/"),
    "all is missing": ({}, "/a/b/c"),
    "the last part": ({"a/b": "/"}, "/a/b/c"),
    "slashes and dots": ({"a": "/"}, "//a/./b//c/"),
    "dots that climb": ({"a": "/"}, "/a/../../b"),
    "dots behind what is missing": ({}, "/a/../b"),
    "a link to nothing": ({"a": "b/c"}, "/a/d"),
    "a link to nothing, absolute": ({"x/a": "/b/c"}, "/x/a/d"),
    "a link to nothing beside it": ({"x/a": "b"}, "/x/a"),
    "a link that leads out": ({"a": "../../../../../../b"}, "/a/c"),
    "a link to a link to nothing": ({"a": "b", "b": "/c/d"}, "/a/e/f"),
    "a link to itself": ({"a": "a"}, "/a/b"),
    "links in a ring": ({"a": "b", "b": "a"}, "/a"),
    "a file on the way": ({"a": ""}, "/a/b"),
    "a file at its end": ({"a/b": ""}, "/a/b"),
    "a link to a file": ({"a": "b", "b": ""}, "/a"),
    "a link to nothing through a file": ({"a": "b/c", "b": ""}, "/a"),
    "a path that is too long": ({}, "/" + "/".join([LONG] * 20)),
    "a name that is too long": ({}, "/" + LONG + "y"),
    "links that make it too long": ({"a": "/".join([LONG] * 9), "b": "a/" + "/".join([LONG] * 9)}, "/b/c"),
}


@pytest.mark.parametrize("kind", ["directory", "file"])
@pytest.mark.parametrize("case", CASES)
def test_it_makes_what_the_judge_makes(case: str, kind: str, tmp_path: Path) -> None:
    entries, path = CASES[case]
    expected = judged(build(tmp_path / "a", entries), path, kind)
    got = made(build(tmp_path / "b", entries), path, kind, tmp_path / "program")
    assert got == expected


@pytest.mark.parametrize("many", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_roots(many: int, tmp_path: Path) -> None:
    for seed in range(many):
        dice = random.Random(seed)

        def path(dice: random.Random = dice, most: int = 4) -> str:
            names = ("a", "b", "c", "..", ".") if dice.random() < 0.5 else ("a", "b", "c")
            return "/".join(dice.choice(names) for _ in range(dice.randrange(1, most)))

        entries = {}
        for _ in range(dice.randrange(6)):
            what = dice.choice(("/", "/", "", path(), "/" + path()))
            entries["/".join(dice.choice("abc") for _ in range(dice.randrange(1, 4)))] = what
        wanted = "/" + path(most=6)
        kind = dice.choice(("directory", "file"))
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            one, two = build(folder / "a", entries), build(folder / "b", entries)
        except OSError:
            continue  # these entries contradict each other
        expected = judged(one, wanted, kind)
        assert made(two, wanted, kind, folder / "program") == expected, (seed, entries, wanted, kind)


@pytest.mark.root
@pytest.mark.parametrize("options, expected", [("ro", 4), ("rw", 3)])
def test_a_read_only_root_can_be_gone_on_with(options: str, expected: int, tmp_path: Path) -> None:
    p = Program(2)
    top, found, otherwise = p.cell(), p.cell(), Label()
    (root := tmp_path / "root").mkdir()
    p.call("openat", -100, str(root), os.O_PATH | os.O_CLOEXEC, 0, result=top)
    Directories(p, top).make_if_writable("/a/b", found, otherwise)
    p.call("exit_group", 3)
    p.place(otherwise)
    p.call("exit_group", 4)
    image = tmp_path / "program"
    image.write_bytes(p.image())
    image.chmod(0o755)
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", options, str(root), str(image)]
    assert subprocess.run(argv, timeout=60).returncode == expected
