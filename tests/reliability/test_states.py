"""Records that are many, old, torn, strange or unreadable: what is said of them, and that nobody else comes to harm."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, tool
from toolkit.runtime import record as records

pytestmark = pytest.mark.root


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no container's."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def make(root: str, container: str, **facts: Any) -> Path:
    """A record as `create` leaves it, with some facts changed."""
    record = records.reserve(root, container)
    record.bundle = "/b"
    for name, value in facts.items():
        setattr(record, name, value)
    record.save_config("{}")
    record.save()
    record.unlock()
    return Path(record.folder)


def listed(ctk: Command) -> dict[str, dict[str, Any]]:
    """`list` in its three forms, which never fails, by id."""
    for form in ((), ("-q",)):
        assert "Traceback" not in ctk("list", *form).ok().err
    return {row["id"]: row for row in ctk("list", "--format", "json").json() or []}


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def calls(ctk: Command, trace: Path) -> int:
    """How many system calls one `list` takes."""
    argv = [tool("strace"), "-f", "-o", str(trace), *ctk.argv("list")]
    subprocess.run(argv, env=ctk.environment, stdout=subprocess.DEVNULL, check=True)
    return len(trace.read_text().splitlines())


def test_a_thousand_are_listed_at_the_same_price_each(
    ctk: Command, state_root: str, tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    began = start_time(stranger.pid)
    here = records.boot_id()

    def add(first: int, last: int) -> None:
        for number in range(first, last):
            kind = number % 4
            make(
                state_root,
                f"c{number:04}",
                pid=(0, stranger.pid, stranger.pid, 4_000_000)[kind],
                start_time=(0, began, began + 1, 1)[kind],
                boot_id=here,
                annotations={"a": "b" * 100},
            )

    try:
        add(0, 100)
        hundred = calls(ctk, tmp_path / "100")
        add(100, 1000)
        thousand = calls(ctk, tmp_path / "1000")
        rows = listed(ctk)
        assert len(rows) == 1000 and list(rows) == sorted(rows)
        for number in range(1000):
            row = rows[f"c{number:04}"]
            assert row["status"] == ("running" if number % 4 == 1 else "stopped"), row
            assert row["pid"] == (stranger.pid if number % 4 == 1 else 0), row
        # A few calls for each: its facts read, its process looked at; nothing that grows with the others.
        each = (thousand - hundred) / 900
        assert 0 < each < 25, each
    finally:
        for number in range(1000):
            (record := records.load(state_root, f"c{number:04}")).remove()
            assert not os.path.exists(record.folder)


def test_what_was_made_before_a_reboot_has_stopped(
    ctk: Command, state_root: str, busybox_bundle: Bundle, stranger: "subprocess.Popen[bytes]"
) -> None:
    """Even if pid and start time fit somebody: the boot's id is another."""
    make(
        state_root,
        "old",
        pid=stranger.pid,
        start_time=start_time(stranger.pid),
        boot_id="00000000-0000-0000-0000-000000000000",
        cgroups={"version": 1, "paths": {"pids": "/sys/fs/cgroup/pids/ctk-nobody/old"}, "rootless": False},
    )
    assert listed(ctk)["old"]["status"] == "stopped"
    state = ctk("state", "old").json()
    assert state["status"] == "stopped" and state["pid"] == 0
    for words in (("kill", "old", "KILL"), ("pause", "old"), ("exec", "old", "true"), ("start", "old")):
        refused = ctk(*words)
        assert refused.rc in (1, 255) and ("not running" in refused.err or "stopped" in refused.err), refused
    assert ctk("kill", "--all", "old", "KILL").rc == 0
    ctk("delete", "old").ok()
    assert listed(ctk) == {}
    assert stranger.poll() is None
    assert ctk("run", "old", cwd=str(busybox_bundle)).rc == 0


@pytest.mark.parametrize("verb", [["delete", "old"], ["delete", "--force", "old"], ["kill", "--all", "old", "KILL"]])
def test_the_cgroup_of_a_record_from_before_a_reboot_is_a_strangers_by_now(
    verb: list[str], ctk: Command, state_root: str, busybox_bundle: Bundle
) -> None:
    """No cgroup outlives a boot: who is in one of that name got there since."""
    busybox_bundle.sh("sleep 1000")
    ctk("run", "--detach", "new", cwd=str(busybox_bundle)).ok()
    facts = json.loads((Path(state_root) / "new/state.json").read_text())
    try:
        before = "00000000-0000-0000-0000-000000000000"
        make(state_root, "old", pid=facts["pid"], start_time=1, boot_id=before, cgroups=facts["cgroups"])
        ctk(*verb).ok()
        assert ctk("state", "new").json()["status"] == "running"
        assert ctk("ps", "--format", "json", "new").json() == [facts["pid"]]
        if verb[0] == "kill":
            assert ctk("ps", "--format", "json", "old").json() is None
            ctk("delete", "old").ok()
        assert listed(ctk).keys() == {"new"}
    finally:
        ctk("delete", "--force", "new").ok()


@pytest.mark.parametrize("verb", [["kill", "c", "KILL"], ["kill", "--all", "c", "9"], ["delete", "--force", "c"]])
def test_a_stranger_with_the_pid_is_never_signalled(
    verb: list[str], ctk: Command, busybox_bundle: Bundle, state_root: str, stranger: "subprocess.Popen[bytes]"
) -> None:
    """The container ended and its pid was given out again: start times differ."""
    busybox_bundle.sh("sleep 1000")
    ctk("run", "--detach", "c", cwd=str(busybox_bundle)).ok()
    path = Path(state_root) / "c/state.json"
    facts = json.loads(path.read_text())
    os.kill(facts["pid"], signal.SIGKILL)
    path.write_text(json.dumps({**facts, "pid": stranger.pid, "start_time": start_time(stranger.pid) - 1}))
    try:
        assert ctk("state", "c").json()["status"] == "stopped"
        result = ctk(*verb)
        assert (result.rc == 0) == (verb != ["kill", "c", "KILL"]), result
        assert ctk("ps", "c").rc in (0, 1)
        assert stranger.poll() is None
    finally:
        ctk("delete", "--force", "c").ok()
    assert stranger.poll() is None


def facts(**changed: Any) -> Callable[[Path], None]:
    """Change facts in state.json."""

    def spoil(folder: Path) -> None:
        document = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**document, **changed}))

    return spoil


def text(data: bytes, name: str = "state.json") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def instead(make_it: Callable[[Path], object], name: str = "state.json") -> Callable[[Path], None]:
    """Something that is no file in the place of one."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make_it(folder / name)

    return spoil


def crowd(folder: Path) -> None:
    (folder / "theirs/deep").mkdir(parents=True)
    (folder / "theirs/deep/file").write_text("x")
    (folder / "theirs/link").symlink_to("/etc")


SPOILT: dict[str, Callable[[Path], None]] = {
    "empty": text(b""),
    "torn": text(b'{"format":1,"id":"c","bun'),
    "garbage": text(os.urandom(300)),
    "zeros": text(bytes(4096)),
    "no object": text(b"[1, 2]"),
    "deep": text(b"[" * 100_000),
    "surrogate": facts(bundle="/\ud800", created="\ud800"),
    "control characters": facts(bundle="/b\n\x1b[31m", created="\x1b[2J"),
    "huge pid": facts(pid=2**70, start_time=5),
    "negative pid": facts(pid=-1),
    "pid 1": facts(pid=1),
    "pid of all": facts(pid=0, start_time=0),
    "huge number": text(b'{"format":1,"id":"c","pid":' + b"9" * 5000 + b"}"),
    "cgroups of a wrong shape": facts(cgroups={"version": 2}),
    "cgroups' paths no object": facts(cgroups={"version": 1, "paths": [1]}),
    "cgroups' paths no strings": facts(cgroups={"version": 1, "paths": {"pids": 5}}),
    "cgroups of an unknown driver": facts(cgroups={"driver": "x"}),
    "cgroups of systemd, empty": facts(cgroups={"driver": "systemd"}),
    "annotations": facts(annotations={"a": 1, "b": None, "c": [{}]}),
    "a folder": instead(lambda path: path.mkdir()),
    "a full folder": instead(lambda path: (path / "x").mkdir(parents=True)),
    "a link": instead(lambda path: path.symlink_to("/etc/passwd")),
    "a dangling link": instead(lambda path: path.symlink_to("nowhere")),
    "a fifo": instead(os.mkfifo),
    "a sparse giant": instead(lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40)),
    "missing": lambda folder: (folder / "state.json").unlink(),
    "config garbage": text(b"\xff{", "config.json"),
    "config of another shape": text(b'{"linux": [], "hooks": 5}', "config.json"),
    "config's hooks no list": text(b'{"hooks": {"poststop": 5}}', "config.json"),
    "config's hooks no hooks": text(b'{"hooks": {"poststop": [5, {"path": 5}]}}', "config.json"),
    "config a folder": instead(lambda path: path.mkdir(), "config.json"),
    "config missing": lambda folder: (folder / "config.json").unlink(),
    "strangers' files": crowd,
}


# What a container can lose without its process being forgotten.
LIVING = ("annotations", "config garbage", "config a folder", "config missing", "strangers' files")


@pytest.mark.parametrize(("what", "living"), [*((what, False) for what in SPOILT), *((what, True) for what in LIVING)])
def test_a_spoilt_record_is_told_and_can_be_removed(
    what: str,
    living: bool,
    ctk: Command,
    busybox_bundle: Bundle,
    state_root: str,
    stranger: "subprocess.Popen[bytes]",
) -> None:
    if living:
        busybox_bundle.sh("sleep 1000")
        ctk("run", "--detach", "c", cwd=str(busybox_bundle)).ok()
        folder = Path(state_root) / "c"
        pid = json.loads((folder / "state.json").read_text())["pid"]
    else:
        folder = make(state_root, "c", pid=stranger.pid, start_time=1, boot_id=records.boot_id())
    make(state_root, "good", pid=stranger.pid, start_time=start_time(stranger.pid), boot_id=records.boot_id())
    try:
        SPOILT[what](folder)
        rows = listed(ctk)
        assert rows["good"]["status"] == "running" and set(rows) == {"c", "good"}
        verbs = [["state"], ["kill"], ["start"], ["ps"], ["pause"], ["resume"], ["exec"], ["update"], ["events"]]
        for verb in verbs:
            extra = {"exec": ["true"], "update": ["--pids-limit", "5"], "events": ["--stats"], "kill": ["c", "0"]}
            words = [*verb, *(["c"] if verb != ["kill"] else []), *extra.get(verb[0], [])]
            result = ctk(*words, timeout=20)
            assert "Traceback" not in result.err and "internal error" not in result.err, result
        if not living:
            assert rows["c"]["status"] == "stopped"
            refused = ctk("kill", "c", "KILL")
            assert refused.rc == 1 and refused.err.count("\n") == 1, refused
    finally:
        removed = ctk("delete", "--force", "c")
        records.load(state_root, "good").remove()
    if living:
        assert not os.path.exists(f"/proc/{pid}") or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    assert removed.rc == 0 and "Traceback" not in removed.err, removed
    assert listed(ctk) == {} and not folder.exists()
    assert stranger.poll() is None and os.path.exists("/etc/passwd")
    busybox_bundle.args("/bin/true")
    ctk("run", "c", cwd=str(busybox_bundle)).ok()


def test_what_else_lies_in_the_root_is_left_alone(ctk: Command, state_root: str, tmp_path: Path) -> None:
    make(state_root, "good")
    root = Path(state_root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "state.json").write_text("{}")
    (root / "file").write_text("x")
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    (root / ".hidden").mkdir()
    (root / "with space").mkdir()
    (root / os.fsdecode(b"\xff\xfe")).mkdir()
    os.mkfifo(root / "fifo")
    assert list(listed(ctk)) == ["good"]
    for name in ("file", "link", "dangling", "fifo"):
        for verb in ("state", "delete", "kill", "start"):
            result = ctk(verb, name)
            assert result.rc == 1 and "does not exist" in result.err and "Traceback" not in result.err, result
        assert ctk("delete", "--force", name).rc == 0  # as for an id that never was
        assert os.path.lexists(root / name)
    for name in (".hidden", "with space", "../outside", "..", "good/../good"):
        result = ctk("delete", "--force", name)
        assert result.rc == 1 and "invalid container ID format" in result.err, result
    assert (outside / "state.json").exists()
    # An id that is taken by something strange is in use, and not written through.
    for name in ("file", "link", "dangling"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b/rootfs").mkdir(exist_ok=True)
        ctk("spec", "--force", "--bundle", str(tmp_path / "b"), cwd=tmp_path / "b").ok()
        Bundle(tmp_path / "b").args("/bin/true")
        result = ctk("create", "--bundle", str(tmp_path / "b"), name)
        assert result.rc == 1 and "already exists" in result.err, result
    assert list(outside.iterdir()) == [outside / "state.json"]
    ctk("delete", "good").ok()
    for name in (".hidden", "with space", os.fsdecode(b"\xff\xfe")):
        (root / name).rmdir()
    (root / "link").unlink()


def test_the_root_itself_is_strange(ctk: Command, tmp_path: Path, busybox_bundle: Bundle) -> None:
    file = tmp_path / "file"
    file.write_text("")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for root in (file, loop, file / "below"):
        for words in (["list"], ["state", "c"], ["delete", "c"], ["create", "--bundle", str(busybox_bundle), "c"]):
            result = ctk("--root", str(root), *words)
            assert result.rc == 1 and result.err.count("\n") == 1 and "Traceback" not in result.err, result


def test_a_full_disk_for_records(ctk: Command, tmp_path: Path, busybox_bundle: Bundle) -> None:
    """At whatever point the room runs out, there is one error, and nothing left."""
    disk = tmp_path / "run"
    disk.mkdir()
    # Pages of 4 KiB: the folder costs none, config.json one, state.json one; inodes: the root, the folder, the files.
    options = ["size=4k", "size=8k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=4"]
    refused = 0
    for option in options:
        subprocess.run([tool("mount"), "-t", "tmpfs", "-o", f"mode=700,{option}", "none", disk], check=True)
        try:
            for words in (["create"], ["run"], ["run", "--detach"]):
                result = ctk("--root", str(disk), *words, "--bundle", str(busybox_bundle), "full")
                assert "Traceback" not in result.err, result
                if result.rc == 0:
                    assert ctk("--root", str(disk), "delete", "--force", "full").rc == 0
                else:
                    refused += 1
                    assert result.rc == 1 and result.err.count("\n") == 1, result
                    assert "no space left on device" in result.err and str(disk) in result.err, result
                assert list(disk.iterdir()) == []
                assert ctk("--root", str(disk), "list", "-q").ok().out == ""
        finally:
            subprocess.run([tool("umount"), disk], check=True)
    assert refused >= 9
