"""What a container does to keep from being looked at, ended or removed (s55)."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import until
from tests.security.conftest import Canary, pid_of, running
from toolkit.errors import CtkError
from toolkit.runtime import record as records

pytestmark = pytest.mark.root

NAME = "n" * 200
DEPTH = 60  # three times what a path can hold


def without_pid_namespace(bundle: Bundle) -> Bundle:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "pid"]

    return bundle.edit(change)


@pytest.mark.parametrize("words", [("stop", "-t", "1"), ("delete", "--force"), ("kill", "--all")])
def test_s55_a_process_whose_name_is_no_text(words: tuple[str, ...], bundle: Bundle, ctk: Command) -> None:
    """Where there is no pid namespace each process of the cgroup is looked at."""
    script = "(printf '\\377\\376' > /proc/self/comm; exec 3</proc/self/stat; while :; do sleep 1; done) & wait"
    with running(ctk, without_pid_namespace(bundle).args("/bin/sh", "-c", script)) as name:
        pids = pids_of(ctk, name)
        until(lambda: any(b"\xff" in Path(f"/proc/{pid}/comm").read_bytes() for pid in pids_of(ctk, name)), "its name")
        ctk(*words, name, *(["KILL"] if words[0] == "kill" else [])).ok()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")


def test_s55_cgroups_deeper_than_a_path_is_long(bundle: Bundle, ctk: Command) -> None:
    """Who is in the deepest of them, frozen there too, is seen, ended, and all of them go."""
    script = "sleep 1000 & sleep 1000 & wait"
    with running(ctk, without_pid_namespace(bundle).args("/bin/sh", "-c", script)) as name:
        pids = until(lambda: found if len(found := pids_of(ctk, name)) == 3 else [], "three processes")
        init = pid_of(ctk, name)
        hidden = next(pid for pid in pids if pid != init)
        tops = cgroups_of(ctk, name)
        assert tops
        for top in tops:
            nest(top, hidden)
        assert pids_of(ctk, name) == pids
        ctk("pause", name).ok()
        ctk("resume", name).ok()
        ctk("stats", "--no-stream", name).ok()
        ctk("delete", "--force", name).ok()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")
        assert not any(top.exists() for top in tops)


def pids_of(ctk: Command, name: str) -> list[int]:
    return sorted(ctk("ps", "--format", "json", name).json())


def cgroups_of(ctk: Command, name: str) -> list[Path]:
    facts = json.loads(Path(ctk.root, name, "state.json").read_text())["cgroups"]
    return [Path(path) for path in facts.get("paths", {"": facts.get("path")}).values()]


def nest(top: Path, pid: int) -> None:
    """Make cgroups in cgroups below `top`, and put `pid` into the innermost, frozen if that is v1's freezer."""
    child = os.fork()
    if child == 0:
        try:
            os.chdir(top)
            for _ in range(DEPTH):
                os.mkdir(NAME)
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if os.path.exists(file) and os.path.exists(f"{NAME}/{file}"):
                        Path(NAME, file).write_text(Path(file).read_text())
                os.chdir(NAME)
            Path("cgroup.procs").write_text(str(pid))
            if os.path.exists("freezer.state"):
                Path("freezer.state").write_text("FROZEN")
            os._exit(0)
        except BaseException as error:
            print(top, error, flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, top


def test_s55_what_a_container_made_in_its_records_folder_goes(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    """/run/notify is a folder of the record, mounted read-only; who may remount it nests there what no path holds."""
    script = (
        "mount -o remount,bind,rw /run/notify && cd /run/notify && "
        f"while mkdir {NAME} && cd {NAME}; do :; done; touch /done; sleep 99"
    )

    def change(config: dict[str, Any]) -> None:
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")

    name = ctk.id()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        env = {"NOTIFY_SOCKET": str(tmp_path / "n")}
        ctk("create", "--bundle", str(bundle.edit(change).args("/bin/sh", "-c", script)), name, env=env).ok()
        starting = ctk.popen("start", name, env=env)
        until((bundle.rootfs / "done").exists, "the attack", of=starting)
        said = ctk("delete", "--force", name)
        starting.wait()
    assert not said.rc, said.err
    assert not Path(ctk.root, name).exists()


def test_s55_a_folder_that_becomes_a_link_is_not_followed(
    tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else still has the folder open, and exchanges what is in it while the record is removed."""
    inner = tmp_path / "root/web/notify"
    (inner / "x").mkdir(parents=True)
    plain = os.rmdir

    def exchanging(path: str, **where: Any) -> None:
        try:
            plain(path, **where)
        except OSError:
            if inner.is_dir() and not inner.is_symlink():
                inner.rename(tmp_path / "aside")
                inner.symlink_to(canary.path)
            raise

    monkeypatch.setattr(os, "rmdir", exchanging)
    with pytest.raises((CtkError, OSError)):
        records.Record(str(tmp_path / "root"), "web").remove()
    assert canary.changes() == []
