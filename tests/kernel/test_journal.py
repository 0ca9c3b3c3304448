"""The log of a held container grows, rotates, and is followed across it."""

import errno
import os
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit.runtime.comfort import journal, logs
from toolkit.runtime.record import Record


@pytest.fixture
def container(tmp_path: Path) -> Record:
    (tmp_path / "one").mkdir()
    return Record(str(tmp_path), "one")


def texts(container: Record, name: str) -> list[bytes]:
    lines = Path(container.folder, name).read_bytes().splitlines()
    return [entry.text for entry in journal.parse(lines)]


def test_it_rotates_and_forgets_the_oldest(container: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LIMIT_BYTES", 200)
    writer = journal.Writer(container)
    for number in range(20):
        writer.write(1, f"line {number}\n".encode())
    kept = texts(container, journal.OLDER) + texts(container, journal.FILE)
    assert kept[-1] == b"line 19" and 4 <= len(kept) < 20
    assert kept == [f"line {number}".encode() for number in range(20 - len(kept), 20)]
    assert sorted(os.listdir(container.folder)) == [journal.FILE, journal.OLDER]
    writer.close()


def test_who_removes_the_record_is_not_disturbed(container: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LIMIT_BYTES", 10)
    writer = journal.Writer(container)
    other = Record(container.root, "one")
    other.lock()
    writer.write(1, b"a line that is longer\n")
    assert os.listdir(container.folder) == [journal.FILE]
    other.unlock()
    writer.write(1, b"one more\n")
    assert journal.OLDER in os.listdir(container.folder)
    writer.close()


def test_a_follower_sees_every_line_across_rotations(
    container: Record, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(journal, "LIMIT_BYTES", 4000)
    monkeypatch.setattr(logs, "_PAUSE_S", 0.001)
    monkeypatch.setattr(logs.records, "load", lambda root, name: container)
    writer = journal.Writer(container)
    reader = threading.Thread(target=lambda: logs.show(container.root, "one", follow=True))
    writer.write(1, b"0\n")
    reader.start()
    for number in range(1, 500):
        writer.write(1, f"{number}\n".encode())
        reader.join(0.001)
    writer.close()
    reader.join(20)
    assert not reader.is_alive()
    assert capfdbinary.readouterr().out.split() == [str(number).encode() for number in range(500)]


@pytest.fixture
def room(container: Record) -> Iterator[Callable[[int], None]]:
    """Sets how large a file may grow: as on a full disk, writes become short and then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_output_that_finds_no_room_is_told_once_with_its_size(container: Record, room: Callable[[int], None]) -> None:
    """Nothing is torn, and what was written and what is told to be missing are together what the container wrote."""
    writer = journal.Writer(container)
    room(3000)
    chunk = b"".join([f"line {number}\n".encode() for number in range(20)])
    for _ in range(10):
        writer.write(1, chunk)
    whole = Path(container.folder, journal.FILE).read_bytes()
    room(-1)
    writer.write(1, b"there is room again\n")
    writer.close()
    text = Path(container.folder, journal.FILE).read_bytes()
    assert text.startswith(whole) and text.endswith(b" stdout F there is room again\n")
    entries = list(journal.parse(text.splitlines()))
    assert len(entries) == len(text.splitlines()), "an entry is torn"
    told = [entry for entry in entries if entry.stream == 2]
    (found,) = [re.fullmatch(rb"ctk: (\d+) bytes of output are missing here: file too large *", e.text) for e in told]
    assert found is not None
    kept = sum(len(entry.data) for entry in entries[:-1] if entry.stream == 1)
    assert kept + int(found[1]) == 10 * len(chunk) and kept > 300
    assert entries[-2] is told[0]


def test_a_file_that_could_not_be_begun_is_begun_later(container: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that was full for a moment: the log went on in the old one for ever."""
    monkeypatch.setattr(journal, "LIMIT_BYTES", 10)
    writer = journal.Writer(container)
    begin = journal.Writer._open

    def full(_: journal.Writer) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal.Writer, "_open", full)
    writer.write(1, b"more than ten bytes\n")
    assert os.listdir(container.folder) == [journal.OLDER]
    monkeypatch.setattr(journal.Writer, "_open", begin)
    writer.write(1, b"the last of the old one\n")
    writer.write(1, b"new\n")
    writer.close()
    assert texts(container, journal.OLDER) == [b"new"]
    assert os.path.exists(f"{container.folder}/{journal.FILE}")
