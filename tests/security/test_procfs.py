"""What is written to /proc for a container reaches the kernel, not a stage set (S22, S47)."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import until
from tests.security.conftest import Canary, bind, mounts, race, run, running

pytestmark = pytest.mark.root


def faked(bundle: Bundle) -> Path:
    """A folder that pretends to be procfs."""
    proc = bundle.path / "proc"
    for folder in ("self/attr/apparmor", "self/fd", "sys/kernel", "sys/net/ipv4", "thread-self/attr/apparmor", "1"):
        (proc / folder).mkdir(parents=True)
    for name in ("self/attr/exec", "self/attr/apparmor/exec", "sys/kernel/shm_rmid_forced", "sys/net/ipv4/ip_forward",
                 "sysrq-trigger", "self/setgroups", "self/uid_map", "self/oom_score_adj"):  # fmt: skip
        (proc / name).write_text("")
    return proc


@pytest.mark.parametrize(
    "place", ["/proc/self", "/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc/sysrq-trigger",
              "/proc/thread-self", "/proc/fs", "/proc/../proc/self", "/link/self", "/proc/acpi/../self"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_s22_mounts_over_parts_of_proc(place: str, kind: str, bundle: Bundle, ctk: Command) -> None:
    """CVE-2019-16884, CVE-2025-52881 (c)."""
    proc = faked(bundle)
    (bundle.rootfs / "link").symlink_to("/proc")
    if kind == "bind":
        source = proc / "self" if not place.endswith("trigger") else proc / "sysrq-trigger"
        mounts(bundle, bind(source, place))
    else:
        mounts(bundle, {"destination": place, "type": "tmpfs", "source": "tmpfs"})
    result = run(ctk, bundle.sh("echo started"))
    assert result.rc != 0 and "started" not in result.out, f"a {kind} mount at {place} was let pass"


@pytest.mark.parametrize("place", ["/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/proc/loadavg"])
def test_s22_the_files_that_lxcfs_replaces(place: str, bundle: Bundle, ctk: Command) -> None:
    source = bundle.path / "file"
    source.write_text("from lxcfs")
    assert run(ctk, mounts(bundle, bind(source, place)).sh(f"cat {place}")).ok().out == "from lxcfs"


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_s22_proc_that_is_no_procfs(kind: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """CVE-2019-19921: a volume in the place of /proc; what the runtime sets must be set all the same, or refused."""
    entry = bind(faked(bundle), "/proc") if kind == "bind" else {"destination": "/proc", "type": "tmpfs", "source": "t"}
    mounts(bundle, only=("/dev", "/dev/pts", "/dev/shm", "/sys"))
    mounts(bundle, entry)

    def asks(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []

    result = run(
        ctk, bundle.edit(asks).sh("mkdir /p && mount -t proc proc /p && cat /p/sys/net/ipv4/ip_forward; echo end")
    )
    assert result.rc != 0 or "end" in result.out
    if kind == "bind":
        assert (bundle.path / "proc/sys/net/ipv4/ip_forward").read_text() == "", "the sysctl went to the fake"


def test_s22_sysctl_is_really_set(bundle: Bundle, ctk: Command) -> None:
    before = Path("/proc/sys/kernel/shm_rmid_forced").read_text()
    wanted = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}
    bundle.edit(lambda config: config["linux"].update(sysctl=wanted))
    said = run(ctk, bundle.sh("cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_forward kernel/msgmax")).ok().out
    assert said.split() == ["1", "1", "9000"]
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == before


def test_s22_a_neighbour_swaps_the_folder_under_proc(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """(b): two containers share a volume that holds the mount point of /proc."""
    volume = bundle.path / "volume"
    (volume / "proc").mkdir(parents=True)
    (volume / "evil").symlink_to(canary.path)
    mounts(bundle, only=())
    mounts(bundle, bind(volume, "/volume"), {"destination": "/volume/proc", "type": "proc", "source": "proc"})
    bundle.edit(
        lambda config: config["linux"].update(maskedPaths=["/volume/proc/keys"], readonlyPaths=["/volume/proc/sys"])
    )
    end = time.monotonic() + 5
    started = 0
    with race((volume / "proc", volume / "evil")):
        while time.monotonic() < end:
            started += run(ctk, bundle).rc == 0
    assert started > 0


def test_s22_exec_into_a_container_that_covered_its_proc(bundle: Bundle, ctk: Command) -> None:
    """Root of a container with CAP_SYS_ADMIN mounts what it likes over /proc; exec must neither trust nor hang."""
    every = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD"]
    sets = {"bounding": every, "effective": every, "permitted": every}
    script = """
        mount -t tmpfs tmpfs /proc && mkdir -p /proc/self/fd /proc/thread-self/attr /proc/1
        for n in 3 4 5 6 7 8 9 10 11 12 13 14 15; do mkfifo /proc/self/fd/$n; done
        mkfifo /proc/self/attr /proc/self/status /proc/self/oom_score_adj; touch /ready; sleep 1000
    """
    bundle.edit(lambda config: config["process"].update(capabilities=sets)).sh(script)
    with running(ctk, bundle) as name:
        until((bundle.rootfs / "ready").exists, "the attack's set-up")
        assert ctk("exec", name, "echo", "hi", timeout=10).ok().out == "hi\n"
        before = time.monotonic()
        ctk("exec", "--tty", name, "echo", "hi", timeout=10)
        assert time.monotonic() - before < 5
        assert ctk("ps", name, timeout=10).rc == 0
        ctk("pause", name, timeout=10).ok()
        ctk("resume", name, timeout=10).ok()


def test_s47_no_process_of_ours_is_left_inside(bundle: Bundle, ctk: Command) -> None:
    with running(ctk, bundle.sh("sleep 1000")) as name:
        ctk("exec", name, "true").ok()
        pids = ctk("exec", name, "sh", "-c", "ls -d /proc/[0-9]* | wc -l").ok().out
    assert int(pids) <= 5
    assert os.path.exists("/proc/self")
