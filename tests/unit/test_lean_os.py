"""The stand-in for `os` does what `os` does, and becomes it when more is wanted."""

import os
import posixpath
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import lean_os

PATHS = st.text(alphabet="/.ab\udc80é", max_size=12)
FOLDER = str(Path(lean_os.__file__).resolve().parent.parent)


@given(PATHS, st.lists(PATHS, max_size=3))
def test_paths_are_taken_as_by_posixpath(first: str, more: list[str]) -> None:
    assert lean_os.path.join(first, *more) == posixpath.join(first, *more)
    assert lean_os.path.dirname(first) == posixpath.dirname(first)
    assert lean_os.path.normpath(first) == posixpath.normpath(first)
    assert lean_os.path.abspath(first) == posixpath.abspath(first)


def test_other_types_of_paths_go_to_posixpath() -> None:
    assert lean_os.path.join(b"a", b"b") == b"a/b"
    assert lean_os.path.join(Path("a"), "b") == "a/b"
    assert lean_os.path.dirname(Path("/a/b")) == "/a"
    assert lean_os.path.normpath(b"a//b/.") == b"a/b"
    assert lean_os.path.abspath(b"/a/..") == b"/"
    with pytest.raises(TypeError):
        lean_os.path.join("a", b"b")


def test_files_are_found_as_by_posixpath(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "dangling", "link", "none", ".", "file/below", "\0"):
        path = f"{tmp_path}/{name}"
        for ask in ("exists", "lexists", "isdir"):
            assert getattr(lean_os.path, ask)(path) == getattr(posixpath, ask)(path), (ask, name)


@pytest.mark.parametrize("name", ["a", "é", "a\udc80", b"a\x80", Path("b")])
def test_names_are_encoded_as_by_os(name: "str | bytes | Path") -> None:
    assert lean_os.fsencode(name) == os.fsencode(name)
    assert lean_os.fsdecode(name) == os.fsdecode(name)


def test_it_has_what_posix_has_and_no_other_value_than_os() -> None:
    ours = {key: value for key, value in vars(lean_os).items() if key[0] != "_" and key not in ("TYPE_CHECKING",)}
    for key in ("open", "stat", "sep", "SEEK_END", "devnull", "name", "linesep"):
        assert key in ours
    own = {"environ", "path", "fsencode", "fsdecode", "getenv"}
    assert {key for key, value in ours.items() if key not in own and getattr(os, key) != value} == set()
    assert lean_os._exit is os._exit


ALONE = """
import sys
sys.path.insert(0, {folder!r})
from toolkit import lean_os
assert "_collections_abc" not in sys.modules, "the real one is there"
import os
assert os is lean_os
{body}
"""


def alone(body: str) -> str:
    """What a Python says in which the stand-in is `os`."""
    script = ALONE.format(folder=FOLDER, body=body)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", script],
        capture_output=True,
        text=True,
        env={"GIVEN": "é", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_missing_brings_the_real_module() -> None:
    assert alone("""
os.environ["OURS"] = "1"
assert os.environ["GIVEN"] == "é"
first = os.walk
import os as real
print(real is lean_os, real.walk is first, os.environ is real.environ, real.environ["OURS"], "GIVEN" in real.environ)
print(os.fsencode is real.fsencode, os.path is real.path, sys.modules["os.path"] is real.path)
""").splitlines() == ["False True True 1 True", "True True True"]


def test_what_nobody_has_is_an_error() -> None:
    assert alone("print(hasattr(os, 'nosuch'), hasattr(os.path, 'nosuch'), os.path.isabs('/'))") == "False False True\n"


def test_changes_of_the_environment_are_the_processes() -> None:
    assert alone("""
import posix
os.environ["A"] = "1"
os.environ.update({"B": "2"}, C="3")
os.environ.setdefault("D", "4"), os.environ.setdefault("A", "5")
os.environ |= {"E": "6"}
print(os.environ.pop("A"), os.environ.pop("nosuch", "none"), os.getenv("B"), os.environ.popitem())
del os.environ["C"]
del os.environ["LC_ALL"]
print(sorted(os.environ.items()))
print(sorted(posix.environ.items()) == sorted((k.encode(), v.encode()) for k, v in os.environ.items()))
sys.stdout.flush()
posix.waitpid(posix.posix_spawn("/usr/bin/env", ["env"], os.environ), 0)
os.environ.clear()
print(len(posix.environ))
""").splitlines() == [
        "1 none 2 ('E', '6')", "[('B', '2'), ('D', '4'), ('GIVEN', 'é')]", "True", "GIVEN=é", "B=2", "D=4", "0",
    ]  # fmt: skip


def test_the_standard_library_works_with_it() -> None:
    assert (
        alone("""
import os.path, subprocess, tempfile, shutil, pathlib
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "a").write_text("x")
    shutil.copy(folder + "/a", folder + "/b")
    print(sorted(os.listdir(folder)), subprocess.run(["echo", "y"], capture_output=True, text=True).stdout.strip())
""")
        == "['a', 'b'] y\n"
    )
