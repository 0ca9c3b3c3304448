"""`ctk image diff`: what the topmost layer of an image changes, and in what two images differ."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, user
from tests.fixtures.command import Command
from tests.fixtures.images import AMD64, ARM64, Image
from tests.fixtures.layers import file, folder, node, symlink, tar
from toolkit.cli import output
from toolkit.errors import Invalid
from toolkit.events import Event, Progressed
from toolkit.image.store import compare
from toolkit.image.store.store import Store

BASE = tar([folder("etc"), file("etc/hosts", b"hosts"), file("etc/gone"), folder("usr"), file("usr/odd\n\x1b[1m")])
TOP = tar([folder("etc"), file("etc/hosts", b"HOSTS"), file("etc/.wh.gone", b""), file("etc/new"), symlink("l", "etc")])
ONE = images.image(BASE)
TWO = images.image(BASE, TOP)
THREE = images.image(BASE, tar([file("usr/arm")]), platform=ARM64)


@pytest.fixture
def put(ctk: Command) -> Callable[..., None]:
    def it(made: Image, name: str) -> None:
        place = Store(os.path.join(ctk.environment["CTK_DATA"], "images")).destination()
        images.put(place, made, name)
        place.commit()
        place.close()

    return it


def test_the_topmost_layer_and_two_images(ctk: Command, put: Callable[..., None]) -> None:
    put(ONE, "web:1")
    put(TWO, "web:2")
    changed = "C /etc\nD /etc/gone\nC /etc/hosts\nA /etc/new\nA /l\n"
    assert ctk("image", "diff", "web:2").ok().out == changed
    assert ctk("image", "diff", "web:1", "web:2").ok().out == changed
    assert ctk("image", "diff", "web:2", "web:1").ok().out == "C /etc\nA /etc/gone\nC /etc/hosts\nD /etc/new\nD /l\n"
    assert ctk("image", "diff", "web:2", "web:2").ok().out == ""
    assert ctk("image", "diff", "web:2", "--json").json()[1] == {"kind": "D", "path": "/etc/gone"}
    # The only layer is on top of nothing. A name can't write to the terminal.
    lines = ctk("image", "diff", "web:1").ok().out.splitlines()
    assert lines[:3] == ["A /etc", "A /etc/gone", "A /etc/hosts"] and len(lines) == 5 and "\x1b" not in lines[4]


def test_a_build_again_with_other_times_is_the_same(ctk: Command, put: Callable[..., None]) -> None:
    later = [folder("etc"), file("etc/hosts", b"hosts")]
    put(images.image(tar(later)), "web:1")
    for one in later:
        one.info.mtime += 1000
    put(images.image(tar(later)), "web:2")
    assert ctk("image", "diff", "web:1", "web:2").ok().out == ""


def test_another_platform_and_names_that_are_not_there(ctk: Command, put: Callable[..., None]) -> None:
    place = Store(os.path.join(ctk.environment["CTK_DATA"], "images")).destination()
    for one in (TWO, THREE):
        images.put(place, one)
    place.put_manifest(images.index(TWO, THREE, platforms=(AMD64, ARM64)), "web:1")
    place.commit()
    place.close()
    assert ctk("image", "diff", "--platform", "linux/arm64", "web:1").ok().out == "C /usr\nA /usr/arm\n"
    wrong = ctk("image", "diff", "web:1", "web:7")
    assert wrong.rc == 1 and "web:7" in wrong.err


def test_a_layer_that_is_not_what_it_should_be_tells_nothing(ctk: Command, put: Callable[..., None]) -> None:
    put(images.image(BASE, tar([file("../out")])), "bad:1")
    wrong = ctk("image", "diff", "bad:1")
    assert (wrong.rc, wrong.out) == (1, "") and "leads out of the root" in wrong.err
    put(images.image(BASE, TOP, rootfs={"type": "layers", "diff_ids": [TWO.diff_ids[0]] * 2}), "bad:2")
    wrong = ctk("image", "diff", "bad:2")
    assert (wrong.rc, wrong.out) == (1, "") and "the image's configuration says" in wrong.err
    with pytest.raises(Invalid, match=r"rootfs\.diff_ids"):
        put(images.image(BASE, rootfs={"type": "layers", "diff_ids": []}), "bad:3")


@pytest.mark.root
def test_an_ordinary_user_is_told_the_same(ctk: Command, tmp_path: Path) -> None:
    """Also of files whose owners the user has no ids for, and of device nodes."""
    home = tmp_path / "home"
    place = Store(str(home / "images")).destination()
    null = node("null", b"3", 1, 3)
    images.put(place, images.image(BASE, tar([null, file("far", uid=3_000_000, gid=3_000_000)])), "web:1")
    place.commit()
    place.close()
    for path in (home, *home.rglob("*")):
        os.chown(path, user.ID, user.ID)
    script = f"export HOME={home} CTK_IMAGES={home}/images; exec {ctk.program} image diff web:1"
    done = subprocess.run(
        [*user.prefix(str(home), subordinate_ids=0), "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "A /far\nA /null\n"), done.stderr


def test_a_list_is_written_while_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    def found() -> Iterator[tuple[str, str]]:
        yield "A", "/a"
        yield "D", "/b\x9b"
        assert '"path": "/a"' in capsys.readouterr().out

    output.changes(found(), json=True)
    output.changes([], json=True)
    assert capsys.readouterr().out == "\n]\n[]\n"


def test_how_far_it_is(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "images"))
    place = store.destination()
    images.put(place, images.image(tar([file(f"{number}") for number in range(300)])), "web:1")
    place.commit()
    place.close()
    said: list[Event] = []
    assert len(list(compare.of_topmost(store, "web:1", emit=said.append))) == 300
    assert [one.done for one in said if isinstance(one, Progressed)] == [256]
