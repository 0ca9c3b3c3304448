"""The wheel holds everything, and what it installs works away from the checkout."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def run(*argv: "str | Path", cwd: "Path | None" = None) -> str:
    done = subprocess.run(
        [str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the committed and the changed files, built from a copy: a build must not write into the checkout."""
    source = tmp_path_factory.mktemp("source")
    names = run("git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in names:
        if name and (TOP / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((TOP / name).read_bytes())
            target.chmod((TOP / name).stat().st_mode & 0o777)
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "-w", folder, ".", cwd=source)
    (found,) = folder.glob("ctk_oci-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin folder of a virtual environment with the wheel in it, and no library beside it."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    target = folder / "bin/python3"
    run(sys.executable, "-m", "pip", "-q", "--python", target, "install", "--no-deps", "--no-index", wheel)
    yield folder / "bin"


def test_wheel_holds_code_keyrings_recipes_and_launcher(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        launcher = next(name for name in names if name.endswith(".data/scripts/ctk"))
        assert archive.read(launcher) == (TOP / "scripts/ctk").read_bytes()
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
