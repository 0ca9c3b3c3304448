"""Writers of layouts and archives that are killed: what is listed is whole, and the next writer goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fixtures import images
from toolkit.errors import CtkError
from toolkit.image import layout
from toolkit.image.layout.source import LayoutSource
from toolkit.image.name import locate

WRITER = """
import sys
from tests.fixtures import images
from toolkit.image import layout
from toolkit.image.name import locate

one = images.image(images.layer({"x": bytes(300_000)}), images.layer({"y": sys.argv[2].encode()}), codec="")
print("go", flush=True)
for number in range(1000):
    destination = layout.open_destination(locate(f"{sys.argv[1]}:{sys.argv[2]}-{number}"), replace=True)
    images.put(destination, one)
    destination.commit()
    destination.close()
"""
TOP = Path(__file__).resolve().parent.parent.parent


def writer(place: str, name: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", WRITER, place, name], cwd=TOP, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    return process


def check(place: str) -> int:
    """The number of images that are listed there, all of which are whole."""
    source = layout.open_source(locate(place))
    assert isinstance(source, LayoutSource)
    try:
        entries = source.entries()
        for entry in entries:
            name = entry.name.partition("-")[0]
            one = images.image(images.layer({"x": bytes(300_000)}), images.layer({"y": name.encode()}), codec="")
            assert images.equal(source, one, f"@{entry.descriptor.digest}")
        return len(entries)
    finally:
        source.close()


def test_writers_of_a_layout_that_are_killed(tmp_path: Path) -> None:
    """Two at a time, of which one is killed at some moment; the other must not notice."""
    folder, chance, seen = tmp_path / "layout", random.Random(7), 0
    for turn in range(6):
        victim, other = (writer(f"oci:{folder}", f"{who}{turn}") for who in "ab")
        time.sleep(chance.uniform(0, 0.08))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        time.sleep(0.05)
        assert other.poll() is None, "the other one goes on"
        other.kill()
        for process in (victim, other):
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        try:
            found = check(f"oci:{folder}")
        except CtkError:
            assert not (folder / "index.json").exists(), "nothing was written yet"
            continue
        assert found >= seen
        seen = found
    assert seen > 10
    destination = layout.open_destination(locate(f"oci:{folder}:last"))
    images.put(destination, images.image(images.layer({"x": bytes(300_000)}), images.layer({"y": b"last"}), codec=""))
    destination.commit()
    destination.close()
    assert check(f"oci:{folder}") == seen + 1
    assert sorted(os.listdir(folder)) == ["blobs", "index.json", "oci-layout"]


def test_a_writer_of_an_archive_that_is_killed(tmp_path: Path) -> None:
    path, chance = tmp_path / "image.tar", random.Random(8)
    for _ in range(6):
        process = writer(f"oci-archive:{path}", "a")
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if path.exists():
            assert check(f"oci-archive:{path}") == 1
    assert path.exists()
