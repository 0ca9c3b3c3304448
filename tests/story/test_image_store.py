"""`ctk images` and `ctk image …`: what a user sees of the store, and does with it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.command import Command
from tests.fixtures.images import AMD64, ARM64, Image
from toolkit.image.store import leases
from toolkit.image.store.store import Store

HISTORY = [
    {"created": "2026-01-01T00:00:00Z", "created_by": "ADD base"},
    {"created": "2026-01-01T00:00:01Z", "created_by": "ENV A=b", "empty_layer": True},
    {"created": "2026-01-01T00:00:02Z", "created_by": "RUN echo \x1b[31mred"},
]
ONE = images.image(images.layer({"base": b"b"}), images.layer({"one": b"o" * 999}), history=HISTORY)
TWO = images.image(images.layer({"base": b"b"}), images.layer({"two": b"t"}), platform=ARM64)


@pytest.fixture
def store(ctk: Command) -> Store:
    return Store(os.path.join(ctk.environment["CTK_DATA"], "images"))


@pytest.fixture
def put(store: Store) -> Callable[[Image, str], None]:
    def it(made: Image, name: str) -> None:
        place = store.destination()
        images.put(place, made, name)
        place.commit()
        place.close()

    return it


def test_no_images(ctk: Command, store: Store) -> None:
    assert ctk("images").ok().out == "no images\n"
    assert ctk("images", "--json").json() == []
    assert ctk("image", "check").ok().out == "no damage\n"
    assert not Path(store.place.folder).exists()


def test_the_list(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    put(TWO, "localhost:5000/mine/app")
    put(TWO, "")
    lines = ctk("images").ok().out.splitlines()
    assert lines[0].split() == ["NAME", "ID", "PLATFORM", "CREATED", "SIZE"]
    assert lines[1].split()[:3] == ["debian:bookworm", ONE.digest[7:19], "linux/amd64"]
    assert lines[2].split()[:3] == ["localhost:5000/mine/app:latest", TWO.digest[7:19], "linux/arm64/v8"]
    assert "2026-01-31 10:00" in lines[1]
    found = ctk("images", "--json").json()
    assert [(one["name"], one["digest"]) for one in found] == [
        ("debian:bookworm", ONE.digest),
        ("localhost:5000/mine/app:latest", TWO.digest),
    ]
    assert found[0]["size"] == len(ONE.raw.data) + sum(map(len, ONE.blobs.values()))
    assert ctk("images", "-q").ok().out == f"{ONE.digest}\n{TWO.digest}\n"


def test_one_image_and_its_history(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    for text in ("debian:bookworm", ONE.digest[7:15], ONE.config.digest):
        told = ctk("image", "inspect", text).json()
        assert told["names"] == ["docker.io/library/debian:bookworm"]
        assert (told["digest"], told["id"]) == (ONE.digest, ONE.config.digest)
        assert [layer["diffID"] for layer in told["layers"]] == ONE.diff_ids
    rows = ctk("image", "history", "debian:bookworm").ok().out.splitlines()
    assert [row.split()[-2] for row in rows[1:]] == ["echo", "ENV", "ADD"] and "\x1b" not in rows[1]
    steps = ctk("image", "history", "debian:bookworm", "--json").json()
    assert [step["digest"] for step in steps] == [ONE.layers[1].digest, "", ONE.layers[0].digest]


def test_an_index_is_asked_by_platform(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    place = store.destination()
    images.put(place, ONE)
    images.put(place, TWO)
    place.put_manifest(images.index(ONE, TWO, platforms=(AMD64, ARM64)), "both")
    place.close()
    assert ctk("image", "inspect", "both", "--platform", "arm64").json()["digest"] == TWO.digest
    assert ctk("image", "inspect", "both", "--platform", "linux/amd64").json()["digest"] == ONE.digest
    failed = ctk("image", "inspect", "both", "--platform", "s390x")
    assert failed.rc == 1 and "there are: linux/amd64, linux/arm64/v8" in failed.err
    assert "linux/amd64, linux/arm64/v8" in ctk("images").ok().out


def test_names_are_given_and_taken(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    assert ctk("image", "tag", "debian:bookworm", "base").ok().out == "base:latest\n"
    assert ctk("image", "rm", "debian:bookworm").ok().out == ("removed debian:bookworm\nremoved no data\n")
    several = ctk("image", "rm", "debian:bookworm", "base")
    assert several.rc == 1 and "base:latest" in ctk("images").out
    assert "there is base:latest" in ctk("image", "inspect", "localhost:5000/base:1").err
    assert "`ctk pull nothing` brings it here" in ctk("image", "inspect", "nothing").err
    assert "removed 4 blobs" in ctk("image", "rm", "base").ok().out
    assert ctk("images").ok().out == "no images\n"


def test_an_image_in_use_says_by_whom(
    ctk: Command, store: Store, put: Callable[[Image, str], None], tmp_path: Path
) -> None:
    put(ONE, "debian:bookworm")
    leases.take(store.place, "the container web", [ONE.digest], bundle=str(tmp_path))
    failed = ctk("image", "rm", "debian:bookworm")
    assert failed.rc == 1 and "it is in use by the container web" in failed.err and "ctk rm web" in failed.err
    ctk("image", "prune", "--all").ok()
    assert ctk("images", "--json").json()[0]["inUseBy"] == "the container web"


def test_prune_shows_what_it_would_do(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    put(TWO, "debian:bookworm")
    shown = ctk("image", "prune", "--dry-run").ok().out
    assert shown.startswith(f"would remove {ONE.digest}\nwould remove 3 blobs, ")
    assert len(ctk("images", "--json").json()) == 2
    assert ctk("image", "prune").ok().out == shown.replace("would remove", "removed")
    assert [one["digest"] for one in ctk("images", "--json").json()] == [TWO.digest]
    wrong = ctk("image", "prune", "--limit", "lots")
    assert wrong.rc == 1 and "'lots' is not a size" in wrong.err


def test_check_tells_and_repairs(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    assert ctk("image", "check").ok().out == "no damage\n"
    path = Path(store.place.blob(ONE.layers[1].digest))
    path.write_bytes(bytes(path.stat().st_size))
    failed = ctk("image", "check")
    assert failed.rc == 1 and f"damaged: {ONE.layers[1].digest}" in failed.out and path.exists()
    assert ctk("images", "--json").json()[0]["problem"] == f"{ONE.layers[1].digest} is missing"
    mended = ctk("image", "check", "--repair")
    assert "(removed)" in mended.out
    assert not path.exists()
    assert ctk("image", "check").rc == 1  # it is missing now, until the next pull
    put(ONE, "debian:bookworm")
    assert ctk("image", "check").ok().out == "no damage\n"


def test_another_folder(ctk: Command, put: Callable[[Image, str], None], tmp_path: Path) -> None:
    put(ONE, "debian:bookworm")
    assert ctk("images", env={"CTK_IMAGES": str(tmp_path / "other")}).ok().out == "no images\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rmi", "debian"], "ctk image rm IMAGE"),
        (["image", "ls"], "ctk images"),
        (["image", "gc"], "ctk image prune"),
        (["stat"], "ctk image history IMAGE shows the layers"),
        (["history", "debian"], "ctk image history IMAGE"),
        (["tag", "a", "b"], "ctk image tag IMAGE NAME"),
    ],
)
def test_words_of_other_programs_lead_here(ctk: Command, words: list[str], hint: str) -> None:
    failed = ctk(*words)
    assert failed.rc == 1 and hint in failed.err


def test_gc_takes_what_killed_commands_have_left(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    put(ONE, "debian:bookworm")
    top = Path(store.place.folder)
    old, new = top / "parts" / f"sha256-{64 * '1'}", top / "parts" / f"sha256-{64 * '2'}"
    for path in (old, new, top / ".0.new", top / "leases/1-0"):
        path.write_text("x")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    (top / "making/x.overlay/tree").mkdir(parents=True)
    gone = [old, top / ".0.new", top / "leases/1-0", top / "making/x.overlay"]
    lines = ctk("gc", "--dry-run").ok().out.splitlines()
    assert {line.split(":")[0] for line in lines if "remove image " in line} == {
        f"would remove image {path}" for path in gone
    }
    assert all(path.exists() for path in gone)
    assert any(line.startswith(f"left alone: images {top}: its image is used again") for line in lines)
    ctk("gc").ok()
    assert not any(path.exists() for path in gone) and new.exists()
    assert ctk("images", "-q").ok().out == f"{ONE.digest}\n"


@pytest.mark.root
def test_doctor_knows_the_store(ctk: Command, store: Store, put: Callable[[Image, str], None]) -> None:
    before = {one["topic"]: one for one in ctk("doctor", "--for", "images", "--json").json()}
    assert "none yet" in before["images"]["what"] and before["layers"]["state"] == "note"
    put(ONE, "debian:bookworm")
    told = {one["topic"]: one for one in ctk("doctor", "--for", "images", "--json").json()}
    assert f"{store.place.folder}: 1 image, " in told["images"]["what"]
    assert told["layers"]["state"] == "ok" and "as root" in told["layers"]["what"]
    assert os.listdir(store.place.path("making")) == []
    limited = ctk("doctor", "--for", "images", env={"CTK_IMAGES_LIMIT": "many"})
    assert "'many' is not a size" in limited.out
