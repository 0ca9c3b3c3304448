"""What is removed from the store, and what never is."""

import os
import time
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.images import AMD64, ARM64, Image
from toolkit.errors import CtkError, InUse, NotFound
from toolkit.image.document import manifest, media_types
from toolkit.image.store import check, collect, leases, limit
from toolkit.image.store import names as store_names
from toolkit.image.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


BASE = images.layer({"base": b"base"})


def image(text: str) -> Image:
    """An image over the base."""
    return images.image(BASE, images.layer({"file": text.encode() * 1000}))


ONE, TWO, THREE = image("one"), image("two"), image("three")


def put(store: Store, made: Image, name: str = "") -> None:
    place = store.destination()
    images.put(place, made, name)
    place.commit()
    place.close()


def lay_out(store: Store, *made: Image) -> None:
    for diff_id in {diff_id for one in made for diff_id in one.diff_ids}:
        with store.layers.laying_out(diff_id) as making:
            if not making.there:
                Path(f"/proc/self/fd/{making.rootfd}/file").write_bytes(b"x" * 100_000)


def there(store: Store, *made: Image, laid_out: bool = True) -> bool:
    """Whether the store holds these images, whole, and nothing else."""
    wanted = {digest for one in made for digest in (one.digest, *one.blobs)}
    layers = {diff_id for one in made for diff_id in one.diff_ids} if laid_out else set()
    assert {digest for digest, _ in store.blobs.all()} == wanted
    assert {one.diff_id for one in store.layers.all()} == layers
    assert [one for one in check.check(store) if one.kind != check.UNREFERENCED] == []
    assert os.listdir(store.place.path("making")) == []
    return True


def names(store: Store) -> list[str]:
    return [one.name.removeprefix("docker.io/library/") for one in store.entries()]


def test_what_nobody_refers_to_goes_with_the_last_name(store: Store) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two:1")
    store.tag("two:1", "two:2")
    lay_out(store, ONE, TWO)
    removed = collect.remove(store, ["two:1"])
    assert (removed.images, removed.blobs, removed.layers) == (["docker.io/library/two:1"], [], [])
    assert there(store, ONE, TWO)
    removed = collect.remove(store, ["two:2"])
    assert set(removed.blobs) == {TWO.digest, TWO.config.digest, TWO.layers[1].digest}
    assert removed.layers == [TWO.diff_ids[1]] and removed.size_bytes > 100_000
    assert there(store, ONE) and names(store) == ["one:latest"]


def test_a_digest_removes_an_image_with_one_name_or_by_force(store: Store) -> None:
    put(store, ONE, "one")
    store.tag("one", "another")
    with pytest.raises(InUse, match="the image has several names"):
        collect.remove(store, [ONE.digest[7:19]])
    assert names(store) == ["one:latest", "another:latest"]
    collect.remove(store, [ONE.digest[7:19]], force=True)
    assert there(store) and names(store) == []
    put(store, TWO, "two")
    collect.remove(store, [TWO.config.digest])
    assert there(store)


def test_several_are_removed_or_none(store: Store) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two")
    with pytest.raises(NotFound):
        collect.remove(store, ["one", "three"])
    assert there(store, ONE, TWO, laid_out=False)
    collect.remove(store, ["one", "two", "one"])
    assert there(store)


def test_what_is_in_use_is_not_removed_and_says_by_whom(store: Store, tmp_path: Path) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two")
    lay_out(store, ONE, TWO)
    leases.take(store.place, "the container web", [ONE.digest, *ONE.diff_ids], bundle=str(tmp_path))
    for text in ("one", ONE.digest):
        with pytest.raises(InUse, match="it is in use by the container web"):
            collect.remove(store, [text])
    store.tag("one", "another")
    collect.remove(store, ["one"])  # it keeps a name
    assert set(collect.prune(store, everything=True).images) == {"docker.io/library/two:latest"}
    assert there(store, ONE)
    leases.of_bundle(store.place, str(tmp_path)).release()
    collect.remove(store, ["another"])
    assert there(store)


def test_layers_alone_are_kept_by_a_lease(store: Store) -> None:
    put(store, ONE, "one")
    lay_out(store, ONE)
    with leases.take(store.place, "a test", [ONE.diff_ids[1]]):
        collect.prune(store, everything=True)
        assert [one.diff_id for one in store.layers.all()] == [ONE.diff_ids[1]]
        assert list(store.blobs.all()) == []
    collect.prune(store)
    assert there(store)


def test_a_pull_keeps_what_it_has_put_and_found(store: Store) -> None:
    put(store, ONE)
    pull = store.destination()
    assert pull.has(TWO.layers[0])  # ONE's base
    pull.put_blob(TWO.layers[1], iter([TWO.blobs[TWO.layers[1].digest]]))
    collect.prune(store, everything=True)
    images.put(pull, TWO, "two")
    collect.prune(store)
    pull.close()
    collect.prune(store)
    assert there(store, TWO, laid_out=False)


def test_prune_takes_images_without_a_name_or_all(store: Store) -> None:
    put(store, ONE, "one")
    put(store, TWO, "one")
    put(store, THREE, "three")
    lay_out(store, ONE, TWO, THREE)
    removed = collect.prune(store, dry_run=True)
    assert removed.images == [ONE.digest] and removed.layers == [ONE.diff_ids[1]]
    assert there(store, ONE, TWO, THREE)
    again = collect.prune(store)
    assert (again.images, again.blobs, again.layers) == (removed.images, removed.blobs, removed.layers)
    assert there(store, TWO, THREE)
    kept = collect.prune(store, everything=True, keep=lambda one: one.name.endswith("/three:latest"))
    assert kept.images == ["docker.io/library/one:latest"] and there(store, THREE)
    collect.prune(store, everything=True)
    assert there(store) and names(store) == []


def test_prune_takes_a_note_of_a_build_that_never_got_its_name(store: Store) -> None:
    put(store, ONE, "one")
    old, new = (Path(store.place.path("builds", f".{name * 16}.new")) for name in "ab")
    for path in (old, new):  # whole: the kill came before the name; a new one may be another's work
        path.write_text("{}")
    os.utime(old, (0, 0))
    collect.prune(store)
    assert [path.exists() for path in (old, new)] == [False, True]


def test_prune_takes_what_broken_commands_have_left(store: Store) -> None:
    put(store, ONE, "one")
    broken = store.blobs.receiving(TWO.layers[1])
    part = broken.__enter__()
    part.write([b"x"])
    store.place.prepare()
    Path(store.place.path(".0123.new")).write_text("half")
    Path(store.place.path("leases/x")).write_text("{")
    os.mkdir(store.place.path("making/removing.x"))
    assert len(list(collect.left_files(store, older_s=0))) == 4
    assert len(list(collect.left_files(store, older_s=collect.PART_S))) == 3
    collect.prune(store)
    assert os.listdir(store.place.path("parts")) != []  # it is being fetched
    broken.__exit__(KeyError, KeyError(), None)
    collect.prune(store)
    assert os.listdir(store.place.path("parts")) == [] and there(store, ONE, laid_out=False)


def test_an_index_keeps_what_it_names(store: Store) -> None:
    arm = images.image(images.layer({"arm": b""}), platform=ARM64)
    pull = store.destination()
    images.put(pull, ONE)
    images.put(pull, arm)
    both = images.index(ONE, arm, platforms=(AMD64, ARM64))
    pull.put_manifest(both, "both")
    pull.close()
    collect.prune(store)
    assert {digest for digest, _ in store.blobs.all()} == {both.digest, ONE.digest, arm.digest, *ONE.blobs, *arm.blobs}
    with leases.take(store.place, "the container web", [arm.digest]), pytest.raises(InUse):
        collect.remove(store, ["both"])
    collect.remove(store, ["both"])
    assert there(store)


@pytest.mark.parametrize("how", ["damaged", "missing"])
@pytest.mark.parametrize("which", ["manifest", "config"])
def test_nothing_is_removed_while_nobody_knows_what_is_needed(store: Store, how: str, which: str) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two")
    lay_out(store, ONE, TWO)
    path = Path(store.place.blob(ONE.digest if which == "manifest" else ONE.config.digest))
    whole = path.read_bytes()
    if how == "damaged":
        path.write_bytes(whole[:-1] + b" ")
    else:
        path.unlink()
    before = {digest for digest, _ in store.blobs.all()}
    for act in (lambda: collect.remove(store, ["two"]), lambda: collect.prune(store)):
        with pytest.raises(CtkError, match="one:latest' is damaged") as wrong:
            act()
        assert wrong.value.hint.endswith("ctk image rm docker.io/library/one:latest")
    assert {digest for digest, _ in store.blobs.all()} == before and names(store) == ["one:latest", "two:latest"]
    assert {one.diff_id for one in store.layers.all()} == {*ONE.diff_ids, *TWO.diff_ids}
    collect.remove(store, ["one"])
    collect.prune(store)
    assert there(store, TWO)


def test_the_limit_takes_layers_that_are_not_used_and_no_names(store: Store) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two")
    lay_out(store, ONE, TWO)
    for at, diff_id in enumerate((*ONE.diff_ids, TWO.diff_ids[1])):
        os.utime(Path(store.layers.path(diff_id)).parent / "facts", (1000 + at, 1000 + at))
    whole = limit.size(store)
    assert limit.keep_within(store, whole).size_bytes == 0 and there(store, ONE, TWO)
    with leases.take(store.place, "a test", [ONE.diff_ids[0]]):  # the longest unused, but in use
        assert limit.keep_within(store, whole - 1).layers == [ONE.diff_ids[1]]
        assert limit.keep_within(store, 0).layers == [TWO.diff_ids[1]]
    assert names(store) == ["one:latest", "two:latest"]
    assert limit.keep_within(store, 0).layers == [ONE.diff_ids[0]]
    assert there(store, ONE, TWO, laid_out=False)
    put(store, THREE, "two")
    limit.keep_within(store, 0)
    assert there(store, ONE, THREE, laid_out=False)  # TWO had no name any more


def test_check_finds_each_kind_of_damage_and_mends_what_it_can(store: Store) -> None:
    put(store, ONE, "one")
    put(store, TWO, "two")
    lay_out(store, ONE, TWO)
    assert list(check.check(store)) == []
    blob = Path(store.place.blob(ONE.layers[1].digest))
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.unlink(store.place.blob(TWO.layers[1].digest))
    time.sleep(0.02)
    (Path(store.layers.path(ONE.diff_ids[0])) / "file").write_text("changed")
    (Path(store.place.path("blobs/sha256")) / "notes.txt").write_text("")
    place = store.destination()
    place.put_blob(THREE.layers[1], iter([THREE.blobs[THREE.layers[1].digest]]))
    place.close()
    found = {(one.kind, os.path.basename(one.name).removesuffix(".overlay")) for one in check.check(store)}
    expected = {
        (check.DAMAGED, ONE.layers[1].digest),
        (check.MISSING, TWO.layers[1].digest),
        (check.CHANGED, "tree"),
        (check.FOREIGN, "notes.txt"),
        (check.UNREFERENCED, THREE.layers[1].digest),
    }
    # A small blob that is damaged counts as missing, too: `has` has hashed it.
    assert found - {(check.MISSING, ONE.layers[1].digest)} == expected
    assert blob.exists() and store.layers.has(ONE.diff_ids[0])  # nothing was changed
    with leases.take(store.place, "a container", [ONE.diff_ids[0]]):
        used = [one for one in check.check(store, repair=True) if one.kind == check.CHANGED]
        assert [one.mended for one in used] == [False] and "in use" in used[0].hint
    assert not blob.exists()
    assert [one.mended for one in check.check(store, repair=True) if one.kind == check.CHANGED] == [True]
    put(store, ONE, "one")
    put(store, TWO, "two")
    assert [one.kind for one in check.check(store) if not one.harmless] == []


def test_check_reads_every_document(store: Store) -> None:
    config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    described = manifest.described(config, media_types.OCI_CONFIG)
    data = manifest.write(described, ONE.layers)
    top = manifest.described(data, media_types.OCI_MANIFEST)
    for what, content in ((described, config), (top, data), *((one, ONE.blobs[one.digest]) for one in ONE.layers)):
        store.blobs.put(what, iter([content]))
    with store.place.changing():  # as a ctk before this one did: today's refuses it at the door
        store_names.set_name(store.place, store_names.whole("odd"), top)
    (found,) = check.check(store)
    assert found.kind == check.INVALID and "has 0 entries, and the manifest has 2 layers" in found.what
