"""The installed `ctk` starts Python isolated and without the site walk (docs/decisions/0003-launcher.md)."""

import importlib.util
import marshal
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import Command, installed_ctk, tool
from tests.fixtures.launchers import CODE, TOP, Installation


def started_python(launcher: str, tmp_path: Path, environment: "dict[str, str] | None" = None) -> list[str]:
    """The last argv that the launcher hands to execve, as strace saw it."""
    log = tmp_path / "trace"
    argv = [tool("strace"), "-f", "-qq", "-e", "trace=execve", "-o", str(log), launcher, "list"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    calls = [line for line in log.read_text().splitlines() if re.search(r"execve\(.* = 0$", line)]
    return re.findall(r'"((?:[^"\\]|\\.)*)"', calls[-1].partition("[")[2].partition("]")[0])


def test_runtime_verbs_start_python_isolated_and_without_site(tmp_path: Path, ctk: Command) -> None:
    argv = started_python(ctk.program, tmp_path, ctk.environment)
    assert argv[1:5] == ["-I", "-S", "-X", "utf8"], argv


def test_a_symlink_to_the_command_works(tmp_path: Path, ctk: Command) -> None:
    # Engines are configured with a path of their own choosing: /usr/local/bin/runc -> …/ctk.
    link = tmp_path / "runc"
    link.symlink_to(installed_ctk())
    argv = started_python(str(link), tmp_path, ctk.environment)
    assert argv[1:5] == ["-I", "-S", "-X", "utf8"], argv
    shown = subprocess.run([str(link), "--version"], capture_output=True, text=True, env=ctk.environment, timeout=60)
    assert shown.returncode == 0 and shown.stdout.startswith("runc version "), shown


def test_the_environment_can_not_bring_code_in(tmp_path: Path, ctk: Command) -> None:
    # With PYTHONPATH or a module in the current folder, whoever can set either would run code as root.
    for name in ("toolkit", "os", "sitecustomize", "errno", "_json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'bitten')!r}, 'w').write({name!r})\n")
    (tmp_path / "startup.py").write_text(f"open({str(tmp_path / 'bitten')!r}, 'w')\n")
    environment = {
        **ctk.environment,
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "startup.py"),
        "PYTHONINSPECT": "1",
    }
    # The control: without -I the poison works, so the test is known to bite.
    subprocess.run([sys.executable, "-c", "import toolkit"], env=environment, cwd=tmp_path, check=True, stdin=-3)
    assert (tmp_path / "bitten").exists()
    (tmp_path / "bitten").unlink()
    ctk("list", env=environment, cwd=tmp_path).ok()
    ctk("list", env={"PYTHONHOME": str(tmp_path)}, cwd=tmp_path).ok()
    assert not (tmp_path / "bitten").exists()


def test_launcher_in_the_checkout_is_the_installed_one() -> None:
    installed = Path(installed_ctk())
    ours = CODE.get(os.uname().machine) or (TOP / "scripts/ctk").read_bytes()
    assert installed.read_bytes() == ours, "run scripts/venv: the launcher has changed"
    launch = installed.parent.parent / "share/ctk/launch.py"
    assert launch.read_bytes() == (TOP / "scripts/launcher/launch.py").read_bytes(), "run scripts/venv"
    assert os.access(TOP / "scripts/ctk", os.X_OK)


@pytest.mark.root
def test_compiled_code_that_others_may_write_to_is_left_alone(tmp_path: Path) -> None:
    """Where a first call with umask 0 made `__pycache__`, everybody could write what root runs (importlib: 0777)."""
    command = Installation(tmp_path, "script").command
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    shutil.copytree(TOP / "toolkit", tmp_path / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))

    def call(umask: int) -> None:
        subprocess.run([command, "--version"], check=True, umask=umask, capture_output=True, timeout=60)

    call(0)
    written = [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o002 and not path.is_symlink()]
    assert not written
    call(0o022)
    module = next((tmp_path / "toolkit/__pycache__").glob("__main__.*.pyc"))
    (tmp_path / "toolkit/__pycache__").chmod(0o777)
    bitten = tmp_path / "bitten"
    code = compile(f"open({str(bitten)!r}, 'w'); main = lambda: None", "x", "exec")
    module.unlink()
    module.write_bytes(module_head(tmp_path / "toolkit/__main__.py") + marshal.dumps(code))
    os.chown(module, 65534, 65534)
    call(0o022)
    assert not bitten.exists()
    (tmp_path / "toolkit/__pycache__").chmod(0o755)  # the control: such a file is what Python would run
    call(0o022)
    assert bitten.exists()


def module_head(source: Path) -> bytes:
    """The first 16 bytes of the file that Python keeps of a source (PEP 552)."""
    about = source.stat()
    return (
        importlib.util.MAGIC_NUMBER
        + bytes(4)
        + int(about.st_mtime).to_bytes(4, "little")
        + about.st_size.to_bytes(4, "little")
    )
