"""The store: what is put in comes out, is checked on both ways, and is found by its names."""

import fcntl
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.images import AMD64, ARM64, Image
from tests.fixtures.waiting import until
from toolkit.errors import CtkError, NotFound, Untrusted, Usage
from toolkit.image import digest
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw
from toolkit.image.store import leases
from toolkit.image.store.store import Store
from toolkit.kernel.process import boot_id

DEBIAN = "docker.io/library/debian:bookworm"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


@pytest.fixture(scope="module")
def made() -> Image:
    return image({"etc/hostname": b"one\n"}, {"big": os.urandom(300_000)})


def image(*layers: dict[str, bytes], platform: Platform = AMD64) -> Image:
    return images.image(*map(images.layer, layers), platform=platform)


def big(made: Image) -> tuple[Descriptor, bytes]:
    """Its second layer."""
    return made.layers[1], made.blobs[made.layers[1].digest]


def put(store: Store, made: Image, name: str = "") -> None:
    place = store.destination()
    images.put(place, made, name)
    place.commit()
    place.close()


def files(store: Store) -> set[str]:
    """The files of the store, but for those that are always there."""
    top = Path(store.place.folder)
    found = {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()}
    return found - {"oci-layout", "index.json", "lock"}


def whole(made: Image) -> set[str]:
    return {"blobs/" + one.replace(":", "/") for one in (made.digest, *made.blobs)}


def test_what_is_put_in_comes_out(store: Store, made: Image) -> None:
    put(store, made, "debian:bookworm")
    source = store.source("debian:bookworm")
    assert source.manifest() == made.raw
    assert source.manifest("bookworm") == made.raw
    assert source.manifest(made.digest).data == made.raw.data
    for what in (made.config, *made.layers):
        data = made.blobs[what.digest]
        assert images.fetch(source, what) == data
        assert images.fetch(source, what, 7) == data[7:]
    source.close()
    assert files(store) == whole(made)


def test_the_store_is_an_oci_layout_and_its_owners_alone(store: Store, made: Image) -> None:
    umask = os.umask(0)
    try:
        put(store, made, "debian:bookworm")
    finally:
        os.umask(umask)
    top = Path(store.place.folder)
    assert json.loads((top / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((top / "index.json").read_bytes())["manifests"]
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": DEBIAN,
        "io.containerd.image.name": DEBIAN,
    }
    assert (entry["digest"], entry["platform"]) == (made.digest, {"architecture": "amd64", "os": "linux"})
    for path in (top, *top.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_store_that_was_open_to_others_is_closed(store: Store, made: Image) -> None:
    os.mkdir(store.place.folder, 0o755)
    put(store, made)
    assert stat.S_IMODE(os.stat(store.place.folder).st_mode) == 0o700


def test_a_store_that_others_write_to_is_refused(store: Store, made: Image) -> None:
    os.mkdir(store.place.folder)
    os.chmod(store.place.folder, 0o777)
    with pytest.raises(CtkError, match="others can write into it"):
        store.destination()
    assert os.listdir(store.place.folder) == []


def test_an_empty_layout_is_made_under_the_lock(store: Store) -> None:
    """Who prunes meanwhile, and holds it, would take the half-written files away."""
    os.mkdir(store.place.folder, 0o700)
    index = Path(store.place.path("index.json"))
    with open(store.place.path("lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=store.place.prepare)
        other.start()
        until(lambda: f"{os.fstat(lock.fileno()).st_ino} 0 EOF" in waiting(), "the second, at the lock")
        assert not index.exists() and other.is_alive()
    other.join()
    assert index.exists()


def waiting() -> str:
    """The locks that somebody waits for (proc(5), /proc/locks)."""
    return "".join(line for line in Path("/proc/locks").read_text().splitlines(True) if "->" in line)


def test_reading_makes_nothing(store: Store) -> None:
    assert store.entries() == []
    with pytest.raises(NotFound, match="no such image"):
        store.image("debian")
    assert not os.path.exists(store.place.folder)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda data: data + b"x", "more than the"),
        (lambda data: data[:-1], "bytes came, and its descriptor states"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its digest is"),
    ],
)
def test_a_blob_of_another_size_or_digest_is_refused(store: Store, made: Image, change: object, because: str) -> None:
    what, data = big(made)
    place = store.destination()
    with pytest.raises(Untrusted, match=because):
        place.put_blob(what, iter([change(data)]))  # type: ignore[operator]
    assert not place.has(what)
    place.put_blob(what, iter([data]))
    assert place.has(what)
    place.close()
    assert files(store) == {"blobs/" + what.digest.replace(":", "/")}


def test_a_broken_transfer_is_gone_on_with(store: Store, made: Image) -> None:
    what, data = big(made)
    place = store.destination()

    def breaking() -> Iterator[bytes]:
        yield data[:1000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError), place.receiving(what) as part:
        part.write(breaking())
    assert files(store) >= {f"parts/{what.digest.replace(':', '-')}"}
    assert not place.has(what)
    with place.receiving(what) as part:
        assert (part.offset, part.resumed, part.there) == (1000, True, False)
        part.write([data[1000:]])
    assert place.has(what)
    with place.receiving(what) as part:
        assert part.there
    place.close()
    assert files(store) == {"blobs/" + what.digest.replace(":", "/")}


def test_a_part_that_is_damaged_is_dropped_and_said_to_be(store: Store, made: Image) -> None:
    what, data = big(made)
    store.place.prepare()
    Path(store.place.part(what.digest)).write_bytes(bytes(1000))
    place = store.destination()
    with pytest.raises(Untrusted, match="from an earlier try, and is dropped now"), place.receiving(what) as part:
        part.write([data[part.offset :]])
    with place.receiving(what) as part:
        assert part.offset == 0
        part.write([data])
    Path(store.place.part(what.digest)).write_bytes(bytes(len(data) + 1))  # longer than the blob can be
    os.unlink(store.place.blob(what.digest))
    with place.receiving(what) as part:
        assert part.offset == 0
        part.write([data])
    place.close()


def test_a_part_can_be_started_again(store: Store, made: Image) -> None:
    what, data = big(made)
    store.place.prepare()
    Path(store.place.part(what.digest)).write_bytes(data[:1000])
    with store.blobs.receiving(what) as part:
        assert part.offset == 1000
        part.restart()
        part.write([data])
    assert store.blobs.has(what)


def test_the_second_waits_and_then_finds_it(store: Store, made: Image) -> None:
    what, data = big(made)
    store.place.prepare()
    told: list[object] = []
    found: list[bool] = []

    def second() -> None:
        with store.blobs.receiving(what, emit=told.append) as part:
            found.append(part.there)

    with store.blobs.receiving(what) as part:
        other = threading.Thread(target=second)
        other.start()
        until(lambda: told, "the second")
        assert not found
        part.write([data])
    other.join()
    assert found == [True]
    assert files(store) == {"blobs/" + what.digest.replace(":", "/")}


def test_the_second_goes_on_where_the_first_gave_up(store: Store, made: Image) -> None:
    what, data = big(made)
    store.place.prepare()
    told: list[object] = []
    offsets: list[int] = []

    def second() -> None:
        with store.blobs.receiving(what, emit=told.append) as part:
            offsets.append(part.offset)
            part.write([data[part.offset :]])

    other = threading.Thread(target=second)
    with pytest.raises(KeyError), store.blobs.receiving(what) as part:
        part.write([data[:10]])
        other.start()
        until(lambda: told, "the second")
        raise KeyError
    other.join()
    assert offsets == [10] and store.blobs.has(what)


def test_a_refused_part_leaves_the_name_to_the_next(store: Store, made: Image) -> None:
    """After a wrong byte the name is free, and whoever has it then keeps it."""
    what, data = big(made)
    store.place.prepare()
    first = store.blobs.receiving(what)
    part = first.__enter__()
    with pytest.raises(Untrusted) as wrong:
        part.write([data + b"x"])
    with store.blobs.receiving(what) as second:
        assert first.__exit__(Untrusted, wrong.value, None) is False
        second.write([data])
    assert store.blobs.has(what)


def test_the_second_starts_anew_where_the_first_was_refused(store: Store, made: Image) -> None:
    what, data = big(made)
    store.place.prepare()
    told: list[object] = []

    def second() -> None:
        with store.blobs.receiving(what, emit=told.append) as part:
            part.write([data[part.offset :]])

    other = threading.Thread(target=second)
    with pytest.raises(Untrusted), store.blobs.receiving(what) as part:
        other.start()
        until(lambda: told, "the second")
        part.write([bytes(len(data))])
    other.join()
    assert store.blobs.has(what)
    assert files(store) == {"blobs/" + what.digest.replace(":", "/")}


def test_a_transfer_that_never_began_leaves_nothing(store: Store, made: Image) -> None:
    with pytest.raises(KeyError), store.blobs.receiving(made.layers[1]):
        raise KeyError
    assert files(store) == set()


def test_a_file_of_ours_becomes_a_blob_without_a_copy(store: Store, made: Image, tmp_path: Path) -> None:
    what, data = big(made)
    (tmp_path / "file").write_bytes(data)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    store.place.prepare()
    Path(store.place.part(what.digest) + ".link").write_text("a killed one's")
    store.blobs.adopt(what, fd)
    path = Path(store.place.blob(what.digest))
    assert path.samefile(tmp_path / "file")
    store.blobs.adopt(what, fd)
    (tmp_path / "file").unlink()
    assert path.read_bytes() == data and files(store) == {str(path.relative_to(store.place.folder))}
    path.write_bytes(b"damaged")
    other = os.memfd_create("elsewhere")  # of another file system
    os.write(other, data)
    store.blobs.adopt(what, other)
    assert path.read_bytes() == data
    os.ftruncate(other, 10)
    path.unlink()
    (tmp_path / "wrong").write_bytes(bytes(len(data)))
    wrong = os.open(tmp_path / "wrong", os.O_RDONLY)
    for one in (other, wrong):
        with pytest.raises(Untrusted):
            store.blobs.adopt(what, one)
    for one in (fd, other, wrong):
        os.close(one)
    assert not path.exists()


def test_a_blob_that_was_changed_in_the_store_is_found(store: Store, made: Image) -> None:
    put(store, made, "debian:bookworm")
    what, data = big(made)
    path = Path(store.place.blob(what.digest))
    path.write_bytes(data[:-1] + b"x")
    source = store.source("debian:bookworm")
    with pytest.raises(Untrusted, match="not what its digest says any more"), source.blob(what):
        pass
    source.close()
    assert not path.exists()  # so that the next pull fetches it
    put(store, made, "debian:bookworm")
    assert path.read_bytes() == data


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_document_that_was_changed_is_found_and_replaced(store: Store, made: Image, which: str) -> None:
    put(store, made, "debian:bookworm")
    digest = made.digest if which == "manifest" else made.config.digest
    path = Path(store.place.blob(digest))
    right = path.read_bytes()
    path.write_bytes(right.replace(b"sha256:", b"sha256;", 1))
    with pytest.raises(Untrusted, match="not what its digest says any more"):
        store.image("debian:bookworm")
    put(store, made, "debian:bookworm")
    assert path.read_bytes() == right
    assert store.image("debian:bookworm").digest == made.digest


def test_a_link_in_place_of_a_blob_is_not_followed(store: Store, made: Image, tmp_path: Path) -> None:
    put(store, made, "debian:bookworm")
    what = made.layers[0]
    data = made.blobs[what.digest]
    path = Path(store.place.blob(what.digest))
    (tmp_path / "elsewhere").write_bytes(data)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert not store.blobs.has(what)
    with pytest.raises(NotFound):
        store.blobs.open(what)


def test_a_manifest_needs_its_blobs(store: Store, made: Image) -> None:
    place = store.destination()
    with pytest.raises(CtkError, match=f"its blob {made.config.digest} is not in the store"):
        place.put_manifest(made.raw, "debian:bookworm")
    with pytest.raises(Untrusted, match="its digest is"):
        place.put_manifest(made.raw._replace(data=made.raw.data + b" "), "debian:bookworm")
    place.close()
    assert store.entries() == []


def test_names(store: Store, made: Image) -> None:
    other = image({"etc/hostname": b"two\n"})
    put(store, made, "debian:bookworm")
    put(store, other, "localhost:5000/mine/app:1")
    config = made.config.digest
    for text in (
        "debian:bookworm", "docker.io/debian:bookworm", DEBIAN, made.digest, made.digest[7:], made.digest[7:19],
        f"debian@{made.digest}", f"debian:other@{made.digest}", config, config[7:], config[7:15],
    ):  # fmt: skip
        assert store.resolve(text).digest == made.digest, text
    assert store.resolve("localhost:5000/mine/app:1").digest == other.digest
    assert store.tag(made.digest[7:19], "debian") == "docker.io/library/debian:latest"
    assert {one.name for one in store.entries() if one.descriptor.digest == made.digest} == {
        DEBIAN,
        "docker.io/library/debian:latest",
    }
    with pytest.raises(NotFound) as missing:
        store.resolve("debian:trixie")
    assert "debian:bookworm" in missing.value.hint
    with pytest.raises(NotFound):
        store.resolve("ffffffffffff")
    with pytest.raises(NotFound, match="no image of the store has this digest"):
        store.resolve("sha256:" + 64 * "0")
    with pytest.raises(CtkError, match="a digest is no tag"):
        store.tag("debian", f"debian@{made.digest}")


def test_digits_that_two_images_begin_with(store: Store) -> None:
    found: dict[str, Image] = {}
    for number in range(100_000):
        one = image({"n": b"%d" % number})
        twin = found.setdefault(one.digest[7:11], one)
        if twin is not one:
            break
    put(store, one, "a")
    put(store, twin, "b")
    with pytest.raises(Usage, match="several images begin with it") as several:
        store.resolve(one.digest[7:11])
    assert one.digest in str(several.value) and twin.digest in str(several.value)


def test_a_name_that_moves_leaves_its_image_without_one(store: Store, made: Image) -> None:
    other = image({"etc/hostname": b"two\n"})
    put(store, made, "debian:bookworm")
    put(store, other, "debian:bookworm")
    assert [(one.name, one.descriptor.digest) for one in store.entries()] == [("", made.digest), (DEBIAN, other.digest)]
    put(store, made, "debian:bookworm")
    assert [(one.name, one.descriptor.digest) for one in store.entries()] == [("", other.digest), (DEBIAN, made.digest)]
    put(store, other, "debian:12")
    put(store, image({"x": b"3"}), "debian:12")
    put(store, made, "debian:bookworm")
    assert sorted(one.name for one in store.entries()) == ["", "docker.io/library/debian:12", DEBIAN]


def test_what_others_say_of_an_image_stays_when_its_name_moves(store: Store, made: Image) -> None:
    put(store, made, "debian:bookworm")
    path = Path(store.place.path("index.json"))
    whole = json.loads(path.read_bytes())
    whole["manifests"][0] |= {"x-mine": 1, "platform": {"os": "linux", "architecture": "amd64", "os.version": "1"}}
    path.write_text(json.dumps(whole))
    put(store, image({"etc/hostname": b"two\n"}), "debian:bookworm")
    first = json.loads(path.read_bytes())["manifests"][0]
    assert (first["x-mine"], first["platform"]["os.version"]) == (1, "1") and "annotations" not in first


def test_an_image_without_a_name_is_listed(store: Store, made: Image) -> None:
    put(store, made)
    put(store, made)
    assert [(one.name, one.descriptor.digest) for one in store.entries()] == [("", made.digest)]
    put(store, made, "debian:bookworm")
    put(store, made)
    assert [(one.name, one.descriptor.digest) for one in store.entries()] == [(DEBIAN, made.digest)]


def test_an_index_with_one_platform_only(store: Store, made: Image) -> None:
    arm = image({"arm": b""}, platform=ARM64)
    both = images.index(made, arm, platforms=(AMD64, ARM64))
    place = store.destination()
    images.put(place, arm)
    place.put_manifest(both, "debian:bookworm")
    place.commit()
    place.close()
    assert [one.descriptor.digest for one in store.entries()] == [both.digest]
    assert store.image("debian:bookworm").digest == arm.digest  # the only one that is there
    with pytest.raises(NotFound, match="there is none for linux/amd64; there are: linux/arm64/v8"):
        store.image("debian:bookworm", AMD64)
    place = store.destination()
    images.put(place, made)
    place.close()
    assert store.image("debian:bookworm", ARM64).digest == arm.digest
    assert store.image("debian:bookworm", AMD64).digest == made.digest


def test_an_attestation_is_no_image(store: Store) -> None:
    arm = image({"arm": b""}, platform=ARM64)
    attestation = image({"about": b""}, platform=Platform("unknown", "unknown"))
    both = images.index(arm, attestation, platforms=(ARM64, Platform("unknown", "unknown")))
    place = store.destination()
    images.put(place, arm)
    images.put(place, attestation)
    place.put_manifest(both, "debian:bookworm")
    place.commit()
    place.close()
    assert [one.descriptor.digest for one in store.entries()] == [both.digest]
    assert store.image("debian:bookworm").digest == arm.digest


def test_an_image_for_another_machine_is_not_taken_for_ours(store: Store, made: Image) -> None:
    put(store, made, "debian:bookworm")
    with pytest.raises(NotFound, match="it is for linux/amd64, and linux/arm64/v8 was asked for"):
        store.image("debian:bookworm", ARM64)


def test_room_is_looked_at_before_the_first_byte(store: Store, made: Image) -> None:
    store.place.check_room(made.layers)
    huge = Descriptor("x", "sha256:" + 64 * "0", 1 << 62)
    with pytest.raises(CtkError, match="no space left on device"):
        store.place.check_room([huge])
    put(store, made)
    store.place.check_room([made.layers[0]._replace(size_bytes=1 << 62)])  # it is there


def test_leases(store: Store, made: Image, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    mine = leases.take(store.place, "me", [made.digest])
    mine.add(made.diff_ids[0])
    leases.take(store.place, "the container web", [made.digest], bundle=str(bundle))
    pid = os.fork()
    if pid == 0:
        leases.take(store.place, "a process that dies", [made.digest])
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    live, dead = leases.survey(store.place)
    assert {one.holder: one.digests for one in live} == {
        "me": {made.digest, made.diff_ids[0]},
        "the container web": {made.digest},
    }
    assert len(dead) == 1 and f"/{pid}-" in dead[0]
    os.waitpid(pid, 0)
    # A pid that was given again: it is another process by its start time.
    Path(dead[0]).write_text(
        f'{{"holder":"x","pid":{os.getpid()},"start_ticks":1,"boot":"{boot_id()}"}}\n{made.digest}\n'
    )
    (tmp_path / "images/leases/half").write_text('{"holder":"x","pi')
    with open(mine.path, "rb") as whole:  # half-written by a process that was killed before it had its name
        (tmp_path / "images/leases/.0123.new").write_bytes(whole.read())
    assert len(leases.survey(store.place)[0]) == 2 and len(leases.survey(store.place)[1]) == 3
    bundle.rmdir()
    mine.release()
    assert leases.survey(store.place)[0] == []


def test_a_lease_of_a_bundle_is_found_again(store: Store, made: Image, tmp_path: Path) -> None:
    leases.take(store.place, "the container web", [made.digest], bundle=str(tmp_path))
    leases.take(store.place, "the container web", [made.digest], bundle=str(tmp_path))
    assert len(leases.survey(store.place)[0]) == 1
    leases.of_bundle(store.place, str(tmp_path)).release()
    assert leases.survey(store.place) == ([], [])


def test_a_manifest_of_a_strangers_type_is_refused(store: Store) -> None:
    place = store.destination()
    data = b'{"schemaVersion":2,"layers":[],"manifests":[]}'

    with pytest.raises(CtkError):
        place.put_manifest(Raw(data, "", digest.of(data)), "x")
    place.close()
    assert files(store) == set()
