"""Lock files of images: what they hold, and what is refused."""

import threading
from pathlib import Path

import pytest

from toolkit.errors import CtkError, Invalid, NotFound, Usage
from toolkit.image import name
from toolkit.image.trust import lock

A, B = (f"sha256:{letter * 64}" for letter in "ab")
WHOLE = "docker.io/library/debian:latest"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / lock.FILE


def test_a_name_in_any_spelling_is_held(path: Path) -> None:
    assert lock.update("", name.parse("debian"), A) == ""
    held = lock.find()
    assert held.path == "ctk.lock" and held.images == {WHOLE: A}
    assert held.digest("debian") == held.digest("docker.io/debian:latest") == A
    assert held.digest("debian:bookworm") == held.digest("a" * 64) == ""
    assert held.digest(f"debian@{B}") == held.digest(f"debian:latest@{B}") == "", "who types a digest wants that one"
    assert lock.update("", name.parse(f"debian:latest@{B}"), B) == A
    assert lock.find().images == {WHOLE: B} and path.stat().st_mode & 0o777 == 0o644


def test_the_file_is_the_same_whatever_came_first(path: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    for one in ("a:1", "b:1"):
        lock.update("", name.parse(one), A)
    for one in ("b:1", "a:1"):
        lock.update(other, name.parse(one), A)
    assert path.read_bytes() == Path(other).read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ctk.lock", "other"]


def test_no_update_is_lost(path: Path) -> None:
    threads = [
        threading.Thread(target=lock.update, args=("", name.parse(f"image:{number}"), A)) for number in range(24)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(lock.find(str(path)).images) == 24


def test_without_a_file(path: Path) -> None:
    assert lock.find() == lock.Lock() and lock.find().digest("debian") == ""
    with pytest.raises(NotFound, match="no such file"):
        lock.find(str(path))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", Invalid),
        ("[]", Invalid),
        ("{}", Invalid),
        ('{"version": 2, "images": {}}', Invalid),
        ('{"version": 1, "images": []}', Invalid),
        ('{"version": 1, "images": {"debian": {"digest": "DIGEST"}}}', Invalid),
        ('{"version": 1, "images": {"NAME@DIGEST": {"digest": "DIGEST"}}}', Invalid),
        ('{"version": 1, "images": {"../x": {"digest": "DIGEST"}}}', Usage),
        ('{"version": 1, "images": {"NAME": {"digest": "sha256:x"}}}', Invalid),
        ('{"version": 1, "images": {"NAME": {"digest": "SHA256:x"}}}', Invalid),
        ('{"version": 1, "images": {"NAME": "DIGEST"}}', Invalid),
        ('{"version": 1, "images": {"NAME": {}}}', Invalid),
        ('{"version": 1, "Images": {}}', Invalid),
    ],
)
def test_what_is_no_lock_is_refused_and_stays(path: Path, text: str, error: type[CtkError]) -> None:
    text = text.replace("NAME", WHOLE).replace("DIGEST", A)
    path.write_text(text)
    with pytest.raises(error):
        lock.find()
    with pytest.raises(error):
        lock.update("", name.parse("debian"), A)
    assert path.read_text() == text
