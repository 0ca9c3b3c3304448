"""One writer of whole files: what a killed one left, or a stranger planted, is in nobody's way."""

import os
import re
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.bundle import document
from toolkit.errors import CtkError
from toolkit.kernel import atomic
from toolkit.runtime import outside


def test_a_pid_file_after_a_killed_create(tmp_path: Path) -> None:
    """B9: its `.pid` made every later --pid-file fail (runc's still does)."""
    (tmp_path / ".pid").write_text("left")
    outside.write_pid_file(str(tmp_path / "pid"), 7)
    outside.write_pid_file(str(tmp_path / "pid"), 8)
    assert (tmp_path / "pid").read_text() == "8" and sorted(os.listdir(tmp_path)) == [".pid", "pid"]
    assert stat.S_IMODE((tmp_path / "pid").stat().st_mode) == 0o644
    with pytest.raises(CtkError, match="write pid file"):
        outside.write_pid_file(str(tmp_path / "no/pid"), 7)


def test_killed_at_any_moment_the_old_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\nfrom toolkit.kernel import atomic\n"
        "print(flush=True)\nfor n in range(10**9): atomic.replace(sys.argv[1], b'%d' % (n % 10) * 100_000)\n"
    )
    top = str(Path(__file__).parents[2])
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path), top], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline()
        until(path.exists, "the first file", of=writer)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        data = path.read_bytes()
        assert len(data) == 100_000 and len(set(data)) == 1
    atomic.replace(str(path), b"new")
    assert path.read_bytes() == b"new"


def test_what_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for write in (atomic.replace, atomic.create):
            with pytest.raises(OSError, match="too large"):
                write(str(tmp_path / "file"), b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    with pytest.raises(FileExistsError):
        atomic.create(str(tmp_path / "file"), b"new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic.replace(str(tmp_path / "folder"), b"new")
    assert (tmp_path / "file").read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_name_may_be_as_long_as_names_are(tmp_path: Path) -> None:
    atomic.replace(str(tmp_path / ("n" * 255)), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_a_config_of_a_killed_spec_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f"config.json.new-{os.getpid()}").write_text("left")
    document.write(str(tmp_path), "{}")
    with pytest.raises(CtkError, match="exists"):
        document.write(str(tmp_path), "[]")
    document.write(str(tmp_path), '{"a": 1}', force=True)
    assert (tmp_path / "config.json").read_text() == '{"a": 1}'


def test_what_comes_in_pieces_has_its_name_when_it_is_whole_or_never(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    atomic.replace(path, b"old")
    with pytest.raises(KeyError), atomic.Writing(atomic.beside(path)) as new:
        atomic.write(new.fd, b"half")
        raise KeyError
    assert os.listdir(tmp_path) == ["file"] and Path(path).read_bytes() == b"old"
    with atomic.Writing(atomic.beside(path)) as new:
        atomic.write(new.fd, b"ne")
        assert Path(path).read_bytes() == b"old"
        atomic.write(new.fd, b"w")
        new.name(path)
        fd = new.take()
    assert os.listdir(tmp_path) == ["file"] and os.pread(fd, 9, 0) == b"new"
    os.close(fd)
    with pytest.raises(FileExistsError):
        atomic.Writing(path)


def test_nobody_else_writes_whole_files_in_a_way_of_his_own() -> None:
    """A file that is renamed into its place is written here; the others rename what is no new file, or say why."""
    others = {
        "runtime/comfort/stopping.py": "an old log, out of the way",
        "runtime/comfort/journal.py": "a log that is turned over",
        "bootstrap/install/staging.py": "what a package staged",
        "bootstrap/install/configure.py": "a program that is diverted",
        "kernel/rmtree_beneath.py": "what is being removed",
        "bootstrap/output/outputs.py": "a part that two builds meet at (its docstring)",
        "bootstrap/output/image.py": "a folder",
        "bootstrap/output/work_folder.py": "a folder",
        "precompile.py": "it imports nothing of what it compiles",
        "bootstrap/compat/second_stage.py": "debootstrap's log",
        "image/store/blobs.py": "what has come of a blob, which a later transfer goes on with",
        "image/store/layers.py": "folders",
        "up/unpack.py": "a folder",
    }
    top = Path(__file__).parents[2] / "toolkit"
    renames = re.compile(r"os\.(rename|replace)\(")
    found = {str(path.relative_to(top)) for path in top.rglob("*.py") if renames.search(path.read_text())}
    assert found == {"kernel/atomic.py", *others}
