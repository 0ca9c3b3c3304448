"""Others that never answer: whoever is waited for has a time for it."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from toolkit.errors import CtkError
from toolkit.runtime import console
from toolkit.runtime.comfort import attach, detach_keys, holder
from toolkit.runtime.record import Record


def in_time(work: Callable[[], object], because: str) -> None:
    began = time.monotonic()
    with pytest.raises(CtkError, match=because):
        work()
    assert time.monotonic() - began < 5


def test_a_holder_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.setattr(attach, "_HELLO_S", 0.3)
    monkeypatch.setattr(attach.records, "load", lambda root, name: Record(root, name))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "one" / holder.SOCKET))
        listener.listen(1)
        in_time(lambda: attach.attach(str(tmp_path), "one"), "its holder does not answer")


def test_a_listener_that_takes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--console-socket, --pidfd-socket, a seccomp agent."""
    monkeypatch.setattr(console, "_CONNECT_S", 1)
    path = str(tmp_path / "engine")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        in_time(lambda: console.connect(path), "accepted no connection within 1 s")


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_a_reader_of_events_that_goes(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    ctk("run", "-d", name, cwd=str(busybox_bundle.sh("sleep 1000"))).ok()
    try:
        line = f"{ctk.program} events --interval 100ms {name} | head -n 1"
        done = subprocess.run(["sh", "-c", line], env=ctk.environment, capture_output=True, text=True, timeout=10)
        assert done.stdout.startswith("{") and done.stderr == ""
    finally:
        ctk("delete", "--force", name)


def test_the_end_is_heard_though_the_holder_left_our_last_word_unread() -> None:
    """unix(7) then says ECONNRESET first: `attach` lost the exit code to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        session = attach._Session(Record("/nowhere", "one"), ours, -1, False, detach_keys.Keys(b""), True)
        ours.send(b"c")
        theirs.send(b'e{"code": 3}')
        theirs.close()
        assert session._packet() == {"code": 3}
