"""Ways out of a build that a hostile package or its scripts might try (security B7, B14 to B17)."""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import struct
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.security.test_build_isolation import Tree, tree, x86_64  # noqa: F401
from tests.unit.test_unpack import Build, build, member  # noqa: F401
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.staging import STAGING, Staging
from toolkit.bootstrap.sandbox import build_cgroup, build_log
from toolkit.errors import BuildFailed, CtkError, Malformed

pytestmark = pytest.mark.root
_FS_IOC_GETVERSION = 0x80087601  # ioctl_iflags(2): the generation of an inode


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that opens a file by its handle (handle.c)."""
    program = tmp_path_factory.mktemp("handle") / "handle"
    source = Path(__file__).parent / "handle.c"
    subprocess.run([tool("gcc"), "-static", "-O1", "-o", str(program), str(source)], check=True)
    return program


def test_b7_no_file_of_the_host_is_opened_by_its_handle(tree: Tree, handle: Path, tmp_path: Path) -> None:  # noqa: F811
    """open_by_handle_at(2) with CAP_DAC_READ_SEARCH knows no root: it opens what lies on the same file system."""
    secret = tmp_path / "secret"
    secret.write_text("of the host\n")
    with secret.open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        try:
            (generation,) = struct.unpack("l", fcntl.ioctl(file.fileno(), _FS_IOC_GETVERSION, bytes(8)))
        except OSError:
            pytest.skip("a file system whose handles this program can't make up")
    words = [str(inode), str(generation & 0xFFFFFFFF)]
    control = subprocess.run([str(handle), *words], cwd=tmp_path, capture_output=True, text=True)
    if control.stdout != "of the host\n":
        pytest.skip("a file system whose handles this program can't make up")
    shutil.copy(handle, tree.root / "handle")
    assert tree.sh("/handle " + " ".join(words)) == ["errno 1 Operation not permitted"]


def test_b7_the_hosts_device_nodes_keep_their_modes(tree: Tree) -> None:  # noqa: F811
    before = {name: os.stat(f"/dev/{name}").st_mode for name in ("null", "zero", "full", "random", "urandom", "tty")}
    try:
        said = tree.sh(
            "for path in null zero full random urandom tty; do chmod 600 /dev/$path 2>/dev/null && echo $path; done;"
            "chmod 600 /proc/kcore /proc/keys 2>/dev/null; echo data > /dev/null && head -c 3 /dev/zero | wc -c"
        )
        after = {name: os.stat(f"/dev/{name}").st_mode for name in before}
    finally:
        for name, mode in before.items():
            os.chmod(f"/dev/{name}", stat.S_IMODE(mode))
    assert after == before
    assert said == ["3"]


@x86_64
def test_b7_no_key_of_the_host_is_in_reach(tree: Tree, probe: Path) -> None:  # noqa: F811
    """keyrings(7): they belong to user ids, and root's id here is the host's."""
    shutil.copy(probe, tree.root / "probe")
    # keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1), as 64 bit, x32 and 32 bit programs call it; add_key
    assert tree.sh("/probe 250 0 -4 1 , 1073742074 0 -4 1 , 248 0 0 0 0 0") == ["-38", "-38", "-38"]
    assert set(tree.sh("/probe -32 288 0 -4 1")) <= {"-38"}


@x86_64
def test_b7_what_no_namespace_parts_is_not_there(tree: Tree, probe: Path) -> None:  # noqa: F811
    """A new user namespace has every capability that was dropped; AF_VSOCK leads to the hypervisor from anywhere."""
    shutil.copy(probe, tree.root / "probe")
    denied = {
        # unshare(CLONE_NEWUSER), with CLONE_NEWNS; clone(CLONE_NEWUSER|SIGCHLD); the first as an x32 program
        "272 0x10000000 , 272 0x10020000 , 56 0x10000011 , 1073742096 0x10000000": -1,
        # clone3, io_uring_setup, io_uring_enter, io_uring_register
        "435 0 0 , 425 8 @ , 426 0 , 427 0": -38,
        # socket: AF_VSOCK, AF_ALG, AF_QIPCRTR; as x32; socketpair(AF_TIPC)
        "41 40 1 0 , 41 38 5 0 , 41 42 2 0 , 1073741865 40 1 0 , 53 30 1 0 @": -97,
    }
    for calls, answer in denied.items():
        assert set(tree.sh(f"/probe {calls}")) == {str(answer)}, calls
    # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; unshare of nothing
    assert all(int(fd) >= 0 for fd in tree.sh("/probe 41 1 1 0 , 41 2 1 0 , 41 10 1 0 , 41 16 3 0 , 272 0"))
    # The same from 32 bit: unshare; socket, socketcall(SOCKET), socketcall(SOCKETPAIR); where the kernel has no such
    # calls, ENOSYS.
    assert set(tree.sh("/probe -32 310 0x10000000")) <= {"-1", "-38"}
    assert set(tree.sh("/probe -32 359 40 1 0")) <= {"-97", "-38"}
    assert set(tree.sh("/probe -32 102 1 @ , 102 8 @")) <= {"-97", "-38"}


def test_b7_a_build_is_alone_in_its_cgroup_and_sees_no_other(tree: Tree) -> None:  # noqa: F811
    own = build_cgroup.own()
    if not own or not os.access(own, os.W_OK):
        pytest.skip("no cgroup v2 here that this process may divide")

    def builds() -> set[str]:
        return set(map(str, Path(own).glob("ctk-build-*")))

    def descends(pid: str) -> bool:
        while pid not in ("0", str(os.getpid())):
            try:
                pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                return False  # another test's, which has ended
        return pid != "0"

    def inside(folder: str) -> list[str]:
        try:
            return Path(folder, "cgroup.procs").read_text().split()
        except OSError:
            return []

    with tree.sandbox() as sandbox:
        (mine,) = (folder for folder in builds() if any(map(descends, inside(folder))))
        sandbox.run(["/bin/sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup"], doing="look")
        assert {line.rpartition(":")[2] for line in sandbox.output()} == {"/"}
        # Process 1 alone, between two programs; it is the host's child of a child of ours.
        assert len(inside(mine)) == 1
        sandbox.run(["/bin/sh", "-c", "setsid sleep 300 &"], doing="leave something running")
    assert builds() & {mine} == set()


def test_b7_proc_takes_no_commands_for_the_hosts_devices(tree: Tree) -> None:  # noqa: F811
    paths = [f"/proc/{name}" for name in ("acpi", "asound", "scsi", "kcore", "keys", "timer_list", "latency_stats")]
    there = {path for path in paths if os.path.exists(path)}
    assert there, "a kernel without any of them shows nothing"
    assert there <= set(tree.sh("awk '{ print $5 }' /proc/self/mountinfo"))
    for path in there:
        assert tree.sh(f"ls -A {path}/ 2>/dev/null; head -c 10 {path} 2>/dev/null; true") == []


def test_b7_no_device_node_of_the_tree_opens_anything(tree: Tree) -> None:  # noqa: F811
    """Whatever way it came there: with it a script could read the host's disk."""
    os.mknod(tree.root / "node", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert tree.sh("head -c 4 /node 2>&1 | tail -c 18; head -c 4 /dev/zero | wc -c")[-2:] == [
        "Permission denied", "4",
    ]  # fmt: skip


def test_b7_no_file_is_left_that_cannot_be_removed(tree: Tree, probe: Path) -> None:  # noqa: F811
    assert int(tree.sh("grep CapBnd /proc/self/status")[0].split()[1], 16) & (1 << 9 | 1 << 2) == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("descriptor", [1, 3])
def test_b7_a_daemon_that_never_stops_talking_holds_nobody_up(tree: Tree, descriptor: int) -> None:  # noqa: F811
    began = time.monotonic()
    talk = f"busybox yes >&{descriptor} & " * 3
    with tree.sandbox() as sandbox:
        for _ in range(3):
            sandbox.run(["/bin/sh", "-c", f"{talk} sleep 0.1"], doing="go on")
    assert time.monotonic() - began < 10


@pytest.mark.timeout(60)
def test_b14_a_script_that_prints_without_end_fills_no_disk(
    tree: Tree,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build_log, "HEAD_BYTES", 1 << 20)
    monkeypatch.setattr(build_log, "TAIL_BYTES", 1 << 16)
    with tree.sandbox() as sandbox:
        sandbox.run(["/bin/echo", "the beginning"], doing="begin")
        with pytest.raises(CtkError) as caught:
            sandbox.run(["/bin/sh", "-c", "busybox yes spam | head -c 30000000; echo the end; exit 3"], doing="talk")
    assert isinstance(caught.value, BuildFailed) and caught.value.tail[-1] == "the end"
    log = tree.log.read_bytes()
    assert len(log) < (1 << 20) + (1 << 16) + 200
    assert b"\nthe beginning\n" in log[:100] and log.endswith(b"spam\nthe end\n")
    said = re.search(rb"\n\[ctk: (\d+) bytes are left out here\]\n", log)
    assert said and int(said[1]) + len(log) - len(said[0]) > 30_000_000
    with tree.sandbox() as sandbox:  # the next one of the same build, as a hook's: it has no room of its own
        sandbox.run(["/bin/sh", "-c", "busybox yes spam | head -c 3000000"], doing="talk")
    assert tree.log.stat().st_size < (1 << 20) + 2 * ((1 << 16) + 200)


NODES = {
    "second name": {
        "1": member("./dev/disk", tarfile.BLKTYPE, devmajor=8),
        "2": member("./var/lib/dpkg/status", tarfile.LNKTYPE, linkname="./dev/disk"),
    },
    "below a link of dev": {
        "1": member("./dev/sub", tarfile.SYMTYPE, linkname="/var/lib/dpkg"),
        "2": member("./dev/sub/status", tarfile.BLKTYPE, devmajor=8),
    },
    "deeper in dev": {"1": member("./dev/sub/status", tarfile.BLKTYPE, devmajor=8)},
    "dev is a link": {
        "1": member("./dev", tarfile.SYMTYPE, linkname="/var/lib/dpkg"),
        "2": member("./dev/status", tarfile.BLKTYPE, devmajor=8),
    },
    "second name through a link": {
        "0.1": member("./dev", tarfile.DIRTYPE, mode=0o755),
        "1": member("./d", tarfile.SYMTYPE, linkname="dev"),
        "2": member("./d/disk"),
        "3": member("./dev/disk", tarfile.BLKTYPE, devmajor=8),
        "4": member("./var/lib/dpkg/status", tarfile.LNKTYPE, linkname="./d/disk"),
    },
}


@pytest.mark.parametrize("files", NODES.values(), ids=NODES.keys())
def test_b6_no_device_gets_out_of_dev(build: Build, files: dict[str, tarfile.TarInfo]) -> None:  # noqa: F811
    """dpkg's status file by such a name is the host's disk when ctk writes it."""
    folder = {"0": member("./var/lib/dpkg", tarfile.DIRTYPE, mode=0o755)}
    with pytest.raises(Malformed, match="evil"):
        build.unpack({"evil": {**folder, **files}}, jobs=1)


def test_b7_a_folder_that_becomes_a_link_is_not_followed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A daemon of a required package's script has won the race: between our two calls the folder became a link."""
    os.chmod(build.canary, 0o700)
    held = {"./x": member("./x", tarfile.DIRTYPE, mode=0o4777, uid=1234, gid=1234), "./x/file": b"1"}
    (_, one) = build.unpack({"base": {"./etc/x": b"1"}}, {"evil": held})
    mkdir = os.mkdir

    def raced(name: bytes, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(build.canary, name, dir_fd=dir_fd)

    rootfd = os.open(build.root, os.O_RDONLY)
    moving = Staging(rootfd)
    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(os, "mkdir", raced)
        moving.release(one.position, one.staged, {}, frozenset())
    moving.forget()
    os.close(moving._stagingfd)
    os.close(rootfd)
    assert (build.root / "x").is_symlink() and (build.root / STAGING).is_dir(), "the race was not won"
    about = os.stat(build.canary)
    assert (stat.S_IMODE(about.st_mode), about.st_uid) == (0o700, 0)


def test_b6_a_fifo_that_becomes_a_link_is_not_followed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Two packages ship one name, a fifo and a link; the link's thread comes between our making and our chmod."""
    os.chmod(build.canary, 0o700)
    mknod, made = os.mknod, threading.Event()

    def slow(name: bytes, mode: int, device: int, *, dir_fd: int) -> None:
        mknod(name, mode, device, dir_fd=dir_fd)
        made.set()
        end = time.monotonic() + 2
        while not (build.root / "x").is_symlink() and time.monotonic() < end:
            time.sleep(0.01)

    monkeypatch.setattr(os, "mknod", slow)
    first = {"./x": member("./x", tarfile.FIFOTYPE, mode=0o777, uid=1234, gid=1234)}
    second = {"./big": bytes(30_000_000), "./x": f"-> {build.canary}"}
    build.unpack({"a": first, "b": second}, jobs=2)
    assert made.is_set() and (build.root / "x").is_symlink(), "the race was not won"
    about = os.stat(build.canary)
    assert (stat.S_IMODE(about.st_mode), about.st_uid) == (0o700, 0)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["status", "available", "cmethopt"])
def test_b14_a_fifo_in_the_place_of_a_file_holds_nobody_up(build: Build, name: str) -> None:  # noqa: F811
    build.unpack({"evil": {"./x": member(f"./var/lib/dpkg/{name}", tarfile.FIFOTYPE, mode=0o600)}})
    rootfd = os.open(build.root, os.O_RDONLY)
    reader = os.open(build.root / "var/lib/dpkg" / name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for _ in range(2):
            with pytest.raises((OSError, CtkError)):
                Database(rootfd).create()
            if reader >= 0:
                os.close(reader)
                reader = -1
        with pytest.raises(OSError, match="not a file"):
            Database(rootfd).read(name)
    finally:
        os.close(rootfd)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["info/format", "triggers/Unincorp"])
def test_b14_a_fifo_in_a_folder_that_is_dpkgs_alone_is_removed(build: Build, name: str) -> None:  # noqa: F811
    build.unpack({"evil": {"./x": member(f"./var/lib/dpkg/{name}", tarfile.FIFOTYPE, mode=0o600)}})
    rootfd = os.open(build.root, os.O_RDONLY)
    try:
        Database(rootfd).create()
    finally:
        os.close(rootfd)
    assert (build.root / "var/lib/dpkg" / name).is_file()


def test_b14_folders_as_deep_as_a_path_is_long(build: Build) -> None:  # noqa: F811
    deep = "./" + "d/" * 2000 + "file"
    build.unpack({"evil": {"./x": member(deep)}}, jobs=1)
    subprocess.run(["rm", "-rf", build.root], check=True)
