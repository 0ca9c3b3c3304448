"""The log of a held container grows, rotates, and is followed across it."""

import os
import threading
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
