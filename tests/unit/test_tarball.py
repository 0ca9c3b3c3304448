"""debootstrap's tarballs of packages: written, read back, and not believed when they contradict themselves."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.test_supply import NAMES, World, fetch, world
from toolkit.bootstrap.compat import tarball_write
from toolkit.bootstrap.facts.hooks_config import Customisation
from toolkit.bootstrap.install.apt_files import sources_list
from toolkit.errors import CtkError, InUse, Malformed, NotFound, Untrusted, Usage
from toolkit.events import Done, Event, Note, silent

__all__ = ["world"]

APT = "./var/cache/apt/archives/apt_1%3a1.0_amd64.deb"
Change = Callable[[str, bytes], "bytes | None"]


@pytest.fixture
def made(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tarball of the world's packages; from now on the cache is empty and the archive silent."""
    path = str(tmp_path / "debs.tgz")
    tarball_write.make(world.request(), path, silent)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "another"))
    world.server.misbehave("", "status", code=500)
    world.server.requests.clear()
    yield path
    assert world.server.requests == []


def changed(path: str, change: Change) -> str:
    """A copy in which each file is what `change(name, data)` makes of it, or missing."""
    new = f"{path}.new"
    with tarfile.open(path) as old, tarfile.open(new, "w:gz") as tar:
        for member in old:
            data = change(member.name, old.extractfile(member).read()) if member.isreg() else b""  # type: ignore[union-attr]
            if data is not None:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return new


def as_debootstrap_makes_it(path: str) -> str:
    return changed(path, lambda name, data: None if name.endswith("/ctk.lock") else data)


def test_what_is_in_it_and_that_it_builds_the_same(world: World, tmp_path: Path, made: str) -> None:
    with tarfile.open(made) as tar:
        members = {one.name: one for one in tar}
        facts = {
            name: tar.extractfile(f"./debootstrap/{name}").read().decode() for name in ("required", "base", "debpaths")
        }  # type: ignore[union-attr]
    assert {"./debootstrap/suite", "./debootstrap/arch", "./debootstrap/base", APT} <= set(members)
    assert "./var/lib/apt/lists/" in "".join(name for name in members if name.endswith("_main_binary-amd64_Packages"))
    assert {(one.uid, one.gid) for one in members.values()} == {(0, 0)}
    assert sorted(facts["required"].split() + facts["base"].split()) == sorted(NAMES)
    assert f"apt {APT[1:]}" in facts["debpaths"].splitlines()
    lock = fetch(world.request(unpack_tarball=made, mirror=""))
    world.server.behave()
    wanted = fetch(world.request())
    world.server.requests.clear()
    assert lock == wanted


def test_one_without_ctks_lock_is_read_by_debootstraps_facts(world: World, made: str) -> None:
    theirs = as_debootstrap_makes_it(made)
    lock = fetch(world.request(unpack_tarball=theirs))
    own = fetch(world.request(unpack_tarball=made))
    assert [(one.name, one.version, one.sha256) for one in lock.packages] == [
        (one.name, one.version, one.sha256) for one in own.packages
    ]
    assert (lock.suite, lock.variant, lock.architecture) == ("bookworm", "minbase", "amd64")
    assert sources_list(lock) == sources_list(own) == f"deb {world.server.url}/debian bookworm main\n"
    again = fetch(world.request(unpack_tarball=theirs, variant="-"))  # then it is the tarball's
    assert again.variant == "minbase"


def test_the_mirror_is_the_one_that_the_packages_are_from(world: World, made: str) -> None:
    uris = "apt 1:1.0 http://mirror.example.org/d/pool/main/a/apt/apt_1.0_amd64.deb\n"
    with gzip.open(as_debootstrap_makes_it(made)) as file:
        plain = file.read()
    path = made.replace(".tgz", ".tar")
    Path(path).write_bytes(plain)
    with tarfile.open(path, "a") as tar:
        for name, text in (("deburis", uris), ("extra-suites", "bookworm-updates\n")):
            member = tarfile.TarInfo(f"debootstrap/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    lock = fetch(world.request(unpack_tarball=path, mirror=""))
    assert sources_list(lock).splitlines() == [
        "deb http://mirror.example.org/d bookworm main",
        "deb http://mirror.example.org/d bookworm-updates main",
    ]


def spoilt(name: str, data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if name == APT else data


def without_apt(name: str, data: bytes) -> bytes | None:
    return None if name == APT else data


@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize(("change", "error"), [(spoilt, Untrusted), (without_apt, CtkError)])
def test_b4_a_package_that_is_not_what_the_tarball_says(
    world: World, made: str, theirs: bool, change: Change, error: type[CtkError]
) -> None:
    path = changed(as_debootstrap_makes_it(made) if theirs else made, change)
    with pytest.raises(error, match=r"'apt'|apt_1"):
        fetch(world.request(unpack_tarball=path))


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"suite": "trixie"}, Usage, "of suite 'bookworm', not 'trixie'"),
        ({"architecture": "arm64"}, Usage, "for 'amd64', not 'arm64'"),
        ({"variant": "buildd"}, Usage, "of the variant 'minbase', not 'buildd'"),
        ({"include": ("curl",)}, NotFound, "no such package"),
        ({"custom": Customisation(timezone="Europe/Berlin")}, NotFound, "tzdata"),
        ({"exclude": ("apt",)}, Usage, "--exclude would change them"),
        ({"pockets": ("updates",)}, Usage, "--pocket would change them"),
        ({"locked": "x.lock"}, Usage, "--locked would change them"),
    ],
)
@pytest.mark.parametrize("theirs", [False, True])
def test_what_the_tarball_cannot_give_is_refused(
    world: World, made: str, theirs: bool, change: dict[str, object], error: type[CtkError], word: str
) -> None:
    path = as_debootstrap_makes_it(made) if theirs else made
    with pytest.raises(error, match=word):
        fetch(world.request(unpack_tarball=path, **change))
    assert fetch(world.request(unpack_tarball=path, include=("apt",))).packages


@pytest.mark.parametrize(
    ("data", "error", "word"),
    [
        (b"no tar at all", Malformed, "read the tarball"),
        (b"", Malformed, "read the tarball"),
        (None, NotFound, "no such"),
    ],
)
def test_files_that_are_no_tarball(
    world: World, tmp_path: Path, data: "bytes | None", error: type[CtkError], word: str
) -> None:
    path = tmp_path / "x.tgz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=word):
        fetch(world.request(unpack_tarball=str(path)))


def test_a_tarball_that_breaks_off_or_has_no_facts(world: World, made: str, tmp_path: Path) -> None:
    data = Path(made).read_bytes()
    short = tmp_path / "short.tgz"
    short.write_bytes(data[: len(data) // 2])
    with pytest.raises(Malformed):
        fetch(world.request(unpack_tarball=str(short)))
    bare = changed(made, lambda name, data: None if "/debootstrap/" in name else data)
    with pytest.raises(Malformed, match="no debootstrap/suite"):
        fetch(world.request(unpack_tarball=bare))


def test_a_file_that_is_there_is_not_written_over_and_a_failure_leaves_none(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "debs.tgz"
    path.write_text("mine")
    with pytest.raises(InUse):
        tarball_write.make(world.request(), str(path), silent)
    assert path.read_text() == "mine"
    told: list[Event] = []
    tarball_write.make(world.request(restart=True), str(path), told.append)
    assert tarfile.is_tarfile(path) and next(one for one in told if isinstance(one, Done)).next_steps
    assert not [one for one in told if isinstance(one, Note) and one.warning]
    world.server.misbehave("/pool/", "status", code=404)
    before = set(tmp_path.iterdir())
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "empty"))
    with pytest.raises(CtkError):
        tarball_write.make(world.request(), str(tmp_path / "new.tgz"), silent)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "empty"}
    assert not list((tmp_path / "empty/trees.new").iterdir())


def test_two_of_the_same_are_the_same(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    for name in ("a.tgz", "b.tgz"):
        tarball_write.make(world.request(), str(tmp_path / name), silent)
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
