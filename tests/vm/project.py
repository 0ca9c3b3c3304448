"""What the guest needs of this checkout, as a tar archive that is the whole of a disk.

Compiled by the guest's own Python, which runs here in a root of its own: under emulation that takes half a minute. So
the folder is called in that root as in the guest, and the files' times are whole seconds, which every archive keeps.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.fixtures.command import tool
from tests.fixtures.launchers import CODE
from tests.vm import guest

TOP = Path(__file__).parents[2]
PARTS = ("toolkit", "tests/vm/inside")
# The command as it is installed (scripts/launcher/hook.py): the script of a checkout is a shell, and a readlink for a
# link.
COMMAND, LAUNCH = "bin/ctk", "share/ctk/launch.py"
# Debian's typer imports all of rich for each command line: four seconds of emulation. Ours is beside the project, where
# the launcher's Python finds it first; rich is the guest's.
BESIDE = ("typer", "annotated_doc", "shellingham")
# The guest learns of it when it boots, which it does with an empty disk.
DISK_BYTES = 32 << 20


def project_disk(path: Path, python: Path) -> None:
    """Write the disk; `python` is a root with the guest's interpreter."""
    with tempfile.TemporaryDirectory(prefix="ctk-vm-") as folder:
        root = Path(folder, "root")
        shutil.copytree(python, root, symlinks=True)
        project = root / guest.PROJECT.lstrip("/")
        for name in PARTS:
            _copy(TOP / name, project / name)
        _copy(TOP / "scripts/launcher/launch.py", project / LAUNCH)
        command = project / COMMAND
        command.parent.mkdir()
        command.write_bytes(CODE["x86_64"])
        command.chmod(0o755)
        for name in BESIDE:
            _copy(_installed(name), project / name)
        _python(root, "compileall", "-q", guest.PROJECT)
        _python(root, "toolkit.precompile")
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(project, "", filter=_of_root)
    empty_disk(path)


def empty_disk(path: Path) -> None:
    """A disk of that size, or what is in it made up to that size."""
    with open(path, "ab") as file:
        assert file.tell() <= DISK_BYTES, f"the project has grown to {file.tell()} bytes"
        file.truncate(DISK_BYTES)


def _installed(package: str) -> Path:
    found = find_spec(package)
    assert found is not None and found.origin is not None, package
    return Path(found.origin).parent


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for each in [target, *target.rglob("*")]:
        second = int(each.lstat().st_mtime)
        os.utime(each, (second, second), follow_symlinks=False)


def _python(root: Path, *words: str) -> None:
    argv = [tool("chroot"), str(root), "/usr/bin/python3", "-m", *words]
    environment = {"PYTHONPATH": guest.PROJECT}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, umask=0o022, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member
