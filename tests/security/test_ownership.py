"""Whose are the records and trees that ctk acts on? Those of strangers are not believed, by any verb (S51).

Control, by hand: runc 1.1.5 looks at no owner; `runc --root DIR kill web KILL` kills what is named by the records of a
root that is another user's, rc 0.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from toolkit.errors import CtkError, NotFound
from toolkit.kernel.ours import NotOurs
from toolkit.runtime import record as records

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
STRANGER = 65534


@dataclass
class Planted:
    """A record named `web` of a process that lives and is not ours to end, with a hook that would leave a trace."""

    root: Path
    process: "subprocess.Popen[bytes]"
    trace: Path

    @property
    def record(self) -> Path:
        return self.root / "web"

    def give(self, *paths: Path) -> None:
        for path in paths:
            os.lchown(path, STRANGER, STRANGER)

    def harmless(self) -> bool:
        return self.process.poll() is None and not self.trace.exists()


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    process = subprocess.Popen(["sleep", "60"])
    made = Planted(tmp_path / "way/root", process, tmp_path / "trace")
    made.root.parent.mkdir()
    record = records.reserve(str(made.root), "web")
    record.pid, record.bundle, record.rootfs = process.pid, str(tmp_path), str(tmp_path)
    record.start_time = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {made.trace}"]}
    record.save_config(json.dumps({"ociVersion": "1.0.2", "hooks": {"poststop": [hook]}}))
    record.save()
    record.unlock()
    assert records.load(str(made.root), "web").pid == process.pid
    yield made
    process.kill()
    process.wait()


VERBS = {
    "state": "state web", "kill": "kill web KILL", "delete": "delete --force web", "start": "start web",
    "delete-regex": "delete --regex --force web", "exec": "exec web true", "ps": "ps web", "pause": "pause web",
    "resume": "resume web", "update": "update --pids-limit 9 web", "events": "events --stats web",
    "checkpoint": "checkpoint web", "list": "list", "logs": "logs web", "attach": "attach web", "stop": "stop web",
    "cp": "cp web:/etc/passwd -", "inspect": "inspect web", "stats": "stats --no-stream web",
}  # fmt: skip


def test_s51_no_verb_believes_a_strangers_root(planted: Planted, ctk: Command) -> None:
    planted.give(planted.root)
    for verb, words in VERBS.items():
        done = ctk(*words.split(), env={"CTK_ROOT": str(planted.root)})
        assert done.rc != 0 and "somebody else's" in done.err, (verb, done)
        assert planted.harmless(), verb
    done = ctk("gc", "--stopped", env={"CTK_ROOT": str(planted.root)}).ok()
    assert f"left alone: records {planted.root}" in done.out and "somebody else's" in done.out
    assert planted.harmless() and planted.record.exists()


def the_root(planted: Planted) -> None:
    planted.give(planted.root)


def a_folder_on_the_way(planted: Planted) -> None:
    planted.give(planted.root.parent)


def a_link_on_the_way(planted: Planted) -> None:
    planted.root.parent.rename(planted.root.parent.with_name("elsewhere"))
    planted.root.parent.symlink_to("elsewhere")
    planted.give(planted.root.parent)


def a_way_that_others_write_to(planted: Planted) -> None:
    planted.root.parent.chmod(0o777)


def a_way_that_a_group_writes_to(planted: Planted) -> None:
    planted.root.parent.chmod(0o775)
    os.chown(planted.root.parent, 0, STRANGER)


def a_root_that_others_write_to(planted: Planted) -> None:
    planted.root.chmod(0o702)


def a_sticky_root(planted: Planted) -> None:
    planted.root.chmod(0o1777)


def the_record(planted: Planted) -> None:
    planted.give(planted.record)


def a_record_that_others_write_to(planted: Planted) -> None:
    planted.record.chmod(0o773)


def the_facts(planted: Planted) -> None:
    planted.give(planted.record / "state.json")


def facts_that_others_write_to(planted: Planted) -> None:
    (planted.record / "state.json").chmod(0o666)


@pytest.mark.parametrize("strange", [
    the_root, a_folder_on_the_way, a_link_on_the_way, a_way_that_others_write_to, a_way_that_a_group_writes_to,
    a_root_that_others_write_to, a_sticky_root, the_record, a_record_that_others_write_to, the_facts,
    facts_that_others_write_to,
])  # fmt: skip
def test_s51_whatever_others_can_change_is_not_believed(strange: Callable[[Planted], None], planted: Planted) -> None:
    strange(planted)
    with pytest.raises(NotOurs, match=r"somebody else's|others can write into"):
        records.load(str(planted.root), "web")
    if "record" not in strange.__name__ and "facts" not in strange.__name__:
        for act in (records.ids, lambda root: records.reserve(root, "new")):
            with pytest.raises(NotOurs, match=r"somebody else's|others can write into"):
                act(str(planted.root))
        assert os.listdir(planted.root) == ["web"]


def test_s51_what_is_ours_is_found_by_any_way_of_ours(planted: Planted, tmp_path: Path) -> None:
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "sticky/link").symlink_to("../way/./root/")
    (tmp_path / "loop").symlink_to("loop")
    for way in ("sticky/link", "way/../way/root", "sticky/../sticky/link/."):
        assert records.load(f"{tmp_path}/{way}", "web").pid == planted.process.pid, way
    planted.root.parent.chmod(0o775)  # of root's own group
    assert records.ids(str(planted.root)) == ["web"]
    with pytest.raises(OSError, match="symbolic links"):
        records.ids(str(tmp_path / "loop"))
    with pytest.raises(NotFound):
        records.load(str(tmp_path / "none/root"), "web")


# Imports while root may, then becomes a user whose files those need not be.
AS_USER = """
import os, subprocess, sys
from toolkit import places
from toolkit.errors import CtkError
from toolkit.runtime import lifecycle, record as records
import fcntl
def attempt(act):
    try:
        return act()
    except CtkError as error:
        return f"{type(error).__name__}: {error}"
os.environ.pop("CTK_ROOT", None)
os.environ.pop("XDG_RUNTIME_DIR", None)
"""


def run_as_user(code: str) -> str:
    argv = ["unshare", "-m", sys.executable, "-c", AS_USER + code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_s51_the_fallback_in_tmp_is_ours_alone_or_nothing() -> None:
    told = run_as_user(
        """
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"], check=True)
def planted(owner, mode):
    os.mkdir("/tmp/ctk-23002"); os.mkdir("/tmp/ctk-23002/ctk", 0o700)
    os.chmod("/tmp/ctk-23002", mode)
    os.chown("/tmp/ctk-23002", owner, owner); os.chown("/tmp/ctk-23002/ctk", 23002, 23002)
def as_user():
    if not os.fork():
        os.setresgid(23002, 23002, 23002); os.setresuid(23002, 23002, 23002)
        root = places.runtime_root()
        print(attempt(lambda: records.ids(root)), attempt(lambda: records.reserve(root, "mine").id), flush=True)
        os._exit(0)
    os.wait()
planted(23001, 0o755); as_user(); os.rename("/tmp/ctk-23002", "/tmp/a")
planted(0, 0o755); as_user(); os.rename("/tmp/ctk-23002", "/tmp/b")
planted(23002, 0o755); as_user(); os.rename("/tmp/ctk-23002", "/tmp/c")
planted(23002, 0o700); os.rename("/tmp/ctk-23002", "/tmp/d"); os.symlink("d", "/tmp/ctk-23002")
os.lchown("/tmp/ctk-23002", 23002, 23002); as_user(); os.unlink("/tmp/ctk-23002")
planted(23002, 0o700); as_user()
"""
    ).splitlines()
    assert len(told) == 5
    for line in told[:4]:
        assert line.count("NotOurs") == 2 and line.count("is not yours alone") == 2, line
    assert told[4] == "[] mine"


def test_s51_root_of_a_user_namespace_has_its_users_records() -> None:
    """podman without root: the host's root, who owns the way, is shown there as the overflow id."""
    told = run_as_user(
        """
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
os.mkdir("/run/user"); os.mkdir("/run/user/23002", 0o700); os.chown("/run/user/23002", 23002, 23002)
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    import ctypes
    os.setresgid(23002, 23002, 23002); os.setresuid(23002, 23002, 23002)
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"x"); os.read(mapped[0], 1)
    os.environ["XDG_RUNTIME_DIR"] = "/run/user/23002"
    root = places.runtime_root()
    print(os.geteuid(), root, attempt(lambda: records.reserve(root, "mine").id), attempt(lambda: records.ids(root)))
    os._exit(sys.stdout.flush() or 0)
os.read(ready[0], 1)
open(f"/proc/{child}/uid_map", "w").write("0 23002 1")
os.write(mapped[1], b"x")
os.wait()
"""
    )
    assert told == "0 /run/user/23002/ctk mine ['mine']\n"


@pytest.mark.parametrize("facts", ["", "[" * 100_000, '{"format": 1, "id": "other"}'])
def test_s51_a_torn_record_runs_no_hook(facts: str, planted: Planted, ctk: Command) -> None:
    (planted.record / "state.json").write_text(facts)
    assert "its create was killed" in ctk("gc", "--dry-run", env={"CTK_ROOT": str(planted.root)}).ok().out
    ctk("delete", "--force", "web", env={"CTK_ROOT": str(planted.root)}).ok()
    assert planted.harmless() and not planted.record.exists()


def test_s51_gc_runs_and_ends_nothing_that_a_strangers_record_names(planted: Planted, ctk: Command) -> None:
    planted.process.kill()
    planted.process.wait()
    planted.give(planted.record)
    told = ctk("gc", "--stopped", env={"CTK_ROOT": str(planted.root)}).ok().out
    assert "left alone: record web: trust the record of 'web'" in told and planted.record.exists()
    assert not planted.trace.exists()
    listed = ctk("list", "-f", "json", env={"CTK_ROOT": str(planted.root)})
    assert listed.json() is None and "somebody else's" in listed.err
    with pytest.raises(CtkError, match="somebody else's"):
        records.load(str(planted.root), "web")
