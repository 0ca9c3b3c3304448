"""sd_notify(3) out of a container, as from a unit of Type=notify: a socket of ours is the service manager."""

import array
import errno
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import text_of, until
from toolkit.runtime import notify
from toolkit.runtime.record import Record

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


class Manager:
    """What a service manager is told, with the time; `answers`: does it let go of the descriptors of BARRIER=1?"""

    def __init__(self, path: Path) -> None:
        self.told: list[tuple[float, bytes]] = []
        self.answers = True
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(str(path))
        self._end.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                data, ancillary, _, _ = self._end.recvmsg(4096, 64)
            except TimeoutError:
                continue
            for _, _, given in ancillary:
                numbers = array.array("i")
                numbers.frombytes(given)
                time.sleep(0.3)  # it is done when it is done
                for number in numbers:
                    os.close(number)
            self.told.append((time.monotonic(), data))

    @property
    def lines(self) -> list[bytes]:
        return [data.strip() for _, data in self.told]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._end.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "manager")
    yield one
    one.stop()


@pytest.fixture(scope="session")
def say(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that sends each of its words to $NOTIFY_SOCKET."""
    folder = tmp_path_factory.mktemp("say")
    (folder / "say.c").write_text(
        r"""
        #include <stdlib.h>
        #include <string.h>
        #include <sys/socket.h>
        #include <sys/un.h>
        int main(int count, char **words) {
            struct sockaddr_un to = {.sun_family = AF_UNIX};
            const char *path = getenv("NOTIFY_SOCKET");
            if (!path) return 9;
            strncpy(to.sun_path, path, 107);
            int end = socket(AF_UNIX, SOCK_DGRAM, 0), failed = 0;
            for (int i = 1; i < count; i++)
                failed |= sendto(end, words[i], strlen(words[i]), 0, (void *)&to, sizeof to) < 0;
            return failed;
        }
        """
    )
    subprocess.run(["cc", "-static", "-o", folder / "say", folder / "say.c"], check=True)
    return folder / "say"


@pytest.fixture
def bundle(busybox_bundle: Bundle, say: Path) -> Bundle:
    (busybox_bundle.rootfs / "bin/say").write_bytes(say.read_bytes())
    (busybox_bundle.rootfs / "bin/say").chmod(0o755)
    script = (
        "say STATUS=x 'MAINPID=1\nERRNO=5'; sleep 0.4; say 'STATUS=y\nREADY=1\nFDSTORE=1'; sleep 0.6; say STOPPING=1"
    )
    return busybox_bundle.sh(script + "; echo $?; exec sleep ${LONG:-0}")


@pytest.mark.parametrize("how", ["run", "run -d", "run -d --hold", "run -d --rm", "create", "run userns"])
def test_ready_and_the_main_process_come_out_and_nothing_else(
    how: str, ctk: Command, bundle: Bundle, manager: Manager, tmp_path: Path
) -> None:
    """The command of a detached one ends when the manager has heard; in the foreground we are the main process."""
    name = ctk.id()
    environment = {"NOTIFY_SOCKET": str(tmp_path / "manager")}
    words = ["run"] if how == "run userns" else how.split()
    if "-d" in words or how == "create":
        bundle.edit(lambda c: c["process"]["env"].append("LONG=1000"))
    if how == "run userns":
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        bundle.edit(lambda c: c["linux"].update(uidMappings=ids, gidMappings=ids))
        bundle.edit(lambda c: c["linux"]["namespaces"].append({"type": "user"}))
        for folder in bundle.rootfs.parents[:-2]:  # those below /tmp
            folder.chmod(0o711)
        os.chown(bundle.rootfs / "run", 100000, 100000)  # where the mount point is made
    try:
        if how == "create":
            with open(tmp_path / "out", "wb") as out:  # the container's, which would hold a pipe of ours
                process = ctk.popen("create", "-b", str(bundle), name, env=environment, stdout=out)
                assert process.wait(20) == 0
            assert manager.lines == []
            words = ["start"]
        else:
            words += ["-b", str(bundle)]
        began = time.monotonic()
        process = ctk.popen(*words, name, env=environment, stdout=subprocess.DEVNULL)
        assert process.wait(20) == 0
        ended = time.monotonic()
        main = process.pid if "-d" not in words and how != "create" else ctk("state", name).json()["pid"]
        assert manager.lines == [b"READY=1", b"MAINPID=%d" % main, b"BARRIER=1"]
        assert manager.told[0][0] - began > 0.4
        if "-d" in words or how == "create":
            assert ended < manager.told[0][0] + 1
            unit = ctk("generate", "systemd", name).ok().out
            assert "Type=notify\n" in unit
    finally:
        ctk("delete", "--force", name)


@pytest.mark.parametrize("how", ["run", "run -d --hold"])
def test_who_goes_on_talking_is_listened_to(
    how: str, ctk: Command, bundle: Bundle, manager: Manager, tmp_path: Path
) -> None:
    """`systemd-notify --ready` ends with a barrier: it said that this failed, with code 1."""
    name = ctk.id()
    bundle.sh(
        "say READY=1; until [ -e /dev/shm/go ]; do sleep 0.05; done; "
        "for i in $(seq 50); do say STATUS=$i || exit 3; done"
    )
    process = ctk.popen(
        *how.split(),
        "-b",
        str(bundle),
        name,
        env={"NOTIFY_SOCKET": str(tmp_path / "manager")},
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: b"BARRIER=1" in manager.lines, "the manager")
        Path(f"/proc/{ctk('state', name).json()['pid']}/root/dev/shm/go").touch()
        code = process.wait(20)
        if how != "run":
            ended = Path(ctk.root) / name / "ended.json"
            code = json.loads(until(lambda: text_of(ended), "the end"))["code"]
    finally:
        ctk("delete", "--force", name)
    assert code == 0
    assert len(manager.lines) == 3


def test_without_a_manager_nothing_changes(ctk: Command, bundle: Bundle, tmp_path: Path) -> None:
    """None, one that is gone (an ancestor's), and a container that has no mounts of its own."""
    bundle.sh("echo $NOTIFY_SOCKET .; ls /run")
    for given in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        done = ctk("run", "-b", str(bundle), ctk.id(), env=given)
        assert (done.rc, done.out.split()) == (0, ["."]), done


def test_one_that_never_is_ready_is_waited_for_until_its_end(
    ctk: Command, bundle: Bundle, manager: Manager, tmp_path: Path
) -> None:
    """runc in the foreground waits for ever then."""
    bundle.sh("say STATUS=x; sleep 0.5; exit 3")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "manager")}
    for words, code in ((["run"], 3), (["run", "-d"], 0)):
        name = ctk.id()
        process: Any = ctk.popen(*words, "-b", str(bundle), name, env=environment, stdout=subprocess.DEVNULL)
        assert process.wait(10) == code
        ctk("delete", "--force", name)
    assert manager.lines == []


def test_a_unit_is_of_type_notify_where_it_is_asked_for(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    ctk("run", "-d", "-b", str(busybox_bundle.sh("sleep 1000")), name).ok()
    assert "Type=exec\n" in ctk("generate", "systemd", name).ok().out
    assert "Type=notify\n" in ctk("generate", "systemd", "--notify", name).ok().out
    ctk("delete", "--force", name).ok()


def test_a_manager_that_goes_away_amid_its_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its barrier stayed open and unheard: `start` waited the whole 30 s for it."""

    class Leaving:
        def send(self, data: bytes) -> int:
            return len(data)

        def sendmsg(self, *_: object) -> int:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

        def close(self) -> None:
            pass

    record = Record(str(tmp_path), "one")
    os.makedirs(notify.folder(record))
    monkeypatch.setattr(notify, "_manager", Leaving)
    listener = notify.Listener(record)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.sendto(b"READY=1", f"{notify.folder(record)}/notify.sock")
    before = len(os.listdir("/proc/self/fd"))
    listener.heard()
    assert listener.has_notified and listener.manager_knows
    assert len(os.listdir("/proc/self/fd")) == before
    listener._ready.close()
    listener._end.close()
