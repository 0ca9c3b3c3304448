"""The wheel holds everything, and what it installs works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.fixtures.launchers import CODE, TOP


def run(*argv: "str | Path", cwd: "Path | None" = None) -> str:
    done = subprocess.run(
        [str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed and the changed files: a build must not write into the checkout."""
    source = tmp_path_factory.mktemp("source")
    names = run("git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in names:
        if name and (TOP / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((TOP / name).read_bytes())
            target.chmod((TOP / name).stat().st_mode & 0o777)
    return source


def built(source: Path, folder: Path, *before: str) -> Path:
    """The wheel that is made of `source`; `before` are the words that pip is started with."""
    pip = [*before, sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "-w", folder, source, cwd=folder)
    (found,) = folder.glob("ctk_oci-*.whl")
    return found


def environment_with(wheel: Path, folder: Path) -> Path:
    """The bin folder of a virtual environment with the wheel in it, and no library beside it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    target = folder / "bin/python3"
    run(sys.executable, "-m", "pip", "-q", "--python", target, "install", "--no-deps", "--no-index", wheel)
    return folder / "bin"


def command_in(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".data/scripts/ctk"))
        return archive.read(name)


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(wheel, tmp_path_factory.mktemp("venv"))


def test_the_command_is_the_machines_program(wheel: Path, installed: Path, tmp_path: Path) -> None:
    machine = os.uname().machine
    if machine not in CODE:
        pytest.skip(f"there is no such program for {machine}")
    assert command_in(wheel) == (installed / "ctk").read_bytes() == CODE[machine]
    assert wheel.name.endswith(f"-py3-none-linux_{machine}.whl")
    # Not a word before our first line, which would be the container's standard error.
    (tmp_path / "state").mkdir(mode=0o700)
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" --root "$1" list -q 2>&1'
    assert run(tool("bash"), "-c", script, installed / "ctk", tmp_path / "state", cwd=tmp_path) == ""


def test_other_machines_get_the_script(source: Path, tmp_path: Path) -> None:
    """Pretended by a personality(2), in which uname(2) names a machine of 32 bits."""
    other = built(source, tmp_path, tool("setarch"), "linux32")
    assert command_in(other) == (TOP / "scripts/ctk").read_bytes()
    assert other.name.endswith("-py3-none-any.whl")
    command = environment_with(other, tmp_path / "venv") / "ctk"
    assert "version" in run(command, "--version", cwd=tmp_path)


def test_a_source_distribution_has_all_that_the_build_needs(source: Path, wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=source)
    (archive,) = tmp_path.glob("ctk_oci-*.tar.gz")
    (tmp_path / "made").mkdir()
    again = built(archive, tmp_path / "made")
    assert again.name == wheel.name and again.read_bytes() == wheel.read_bytes()


def test_wheel_holds_code_keyrings_recipes_and_launcher(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (launch,) = (name for name in names if name.endswith(".data/data/share/ctk/launch.py"))
        assert archive.read(launch) == (TOP / "scripts/launcher/launch.py").read_bytes()
    tracked = run("git", "-C", TOP, "ls-files", "toolkit").split()
    assert {name for name in tracked if (TOP / name).exists()} <= names
    for folder, share in (("vendor/keyrings", "keyrings"), ("recipes", "recipes")):
        for path in (TOP / folder).iterdir():
            assert f"toolkit/share/{share}/{path.name}" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "docs"))]


def test_first_door_works_without_any_library(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert run(installed / "ctk", "--root", tmp_path / "state", "list", "-q", cwd=tmp_path) == ""
    assert "version" in run(installed / "ctk", "--version", cwd=tmp_path)
    script = "from toolkit import places; import toolkit; print(toolkit.__file__, places.shipped('keyrings'))"
    where = run(installed / "python3", "-I", "-c", script, cwd=tmp_path).split()
    assert all(str(installed.parent) in path for path in where), where
    assert any(Path(where[1]).iterdir())


def test_manual_is_where_man_looks(installed: Path) -> None:
    """man tries ../share/man beside each folder of PATH."""
    pages = {path.name for path in (installed / "../share/man/man1").iterdir()}
    assert {"ctk.1", "ctk-run.1", "ctk-up.1", "ctk-recipe-run.1"} <= pages
    text = (installed / "../share/man/man1/ctk-run.1").read_text()
    assert "\n.SH NAME\nctk\\-run \\- " in text and "detach" in text
