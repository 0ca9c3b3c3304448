"""Several sources in one build, some of them hostile (security rows B1 to B4 between sources)."""

import base64
import gzip
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pysequoia
import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Key, Suite
from tests.fixtures.server import FileServer
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.install.apt_files import sources_list
from toolkit.bootstrap.plan.plan_build import solve
from toolkit.errors import Malformed, NotFound, Unreachable, Unsolvable, Untrusted, Usage
from toolkit.events import Event, Note, silent
from toolkit.fetch.verify import load_keyring


def deb(name: str, version: str = "1.0", priority: str = "optional", **fields: str) -> bytes:
    return debs.make(
        {"Package": name, "Version": version, "Priority": priority, **fields},
        {f"./usr/share/{name}": f"{name} {version}"},
    )


BASE = [deb("dpkg", priority="required"), deb("apt", priority="important"), deb("usr-is-merged"), deb("tool", "1.0")]


@dataclass
class World:
    """Debian-shaped archive `main` with pockets, and somebody else's `other`, each with a key of its own."""

    main: Archive
    other: Archive
    main_url: str
    other_url: str

    def lock(self, emit: object = silent, **changes: object) -> Lock:
        request = Request(
            "bookworm",
            "",
            variant="minbase",
            architecture="amd64",
            mirror=self.main_url,
            keyring=str(self.main.keyring),
        )
        return solve(replace(request, **changes), emit)  # type: ignore[arg-type]

    def line(self, options: str = "", suite: str = "stable main") -> str:
        signed = f"signed-by={self.other.keyring}"
        return f"deb [{options or signed}] {self.other_url} {suite}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv("CTK_MIRROR", raising=False)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    main, other = Archive(tmp_path / "debian"), Archive(tmp_path / "other", Key("Other <other@example.invalid>"))
    main.publish(Suite("bookworm", "bookworm", packages={"main": BASE}))
    main.publish(Suite("bookworm-updates", "bookworm-updates", packages={"main": [deb("tool", "1.1")]}))
    main.publish(
        Suite(
            "bookworm-backports",
            "bookworm-backports",
            origin="Debian Backports",
            packages={"main": [deb("tool", "3.0~bpo"), deb("newer", "2")]},
            extra={"NotAutomatic": "yes", "ButAutomaticUpgrades": "yes"},
        )
    )
    other.publish(
        Suite(
            "stable", "stable", origin="Other", label="Other", packages={"main": [deb("tool", "9"), deb("extra", "5")]}
        )
    )
    with FileServer(tmp_path).running() as server:
        yield World(main, other, server.url + "/debian", server.url + "/other")


def versions(lock: Lock) -> dict[str, str]:
    return {one.name: one.version for one in lock.packages}


def test_pockets_and_pins_decide_the_version(world: World) -> None:
    def tool(**changes: object) -> str:
        return versions(world.lock(**{"include": ("tool",), **changes}))["tool"]

    assert tool() == "1.0"
    assert tool(pockets=("updates",)) == "1.1"
    assert tool(pockets=("updates", "backports")) == "1.1"  # backports count 100
    assert tool(pockets=("updates", "backports"), pins=("* release n=bookworm-backports 600",)) == "3.0~bpo"
    assert tool(pockets=("updates",), pins=("tool release n=bookworm-updates -1",)) == "1.0"
    assert tool(sources=(world.line(),)) == "9"
    assert tool(sources=(world.line(),), pins=("tool release o=Other 100",)) == "1.0"
    assert tool(sources=(world.line(),), pins=("tool version 1.* 900",)) == "1.0"
    assert tool(pockets=("updates",), include=("tool/bookworm",)) == "1.0"
    assert tool(pockets=("updates",), include=("tool=1.0",)) == "1.0"
    with pytest.raises(NotFound, match="it has only: updates, security") as caught:
        world.lock(pockets=("secruity",))
    assert "--pocket bookworm-" in caught.value.hint
    with pytest.raises(Usage, match="it is not PACKAGE"):
        world.lock(pins=("nonsense",))


def test_the_trees_list_names_them_all(world: World) -> None:
    lock = world.lock(pockets=("updates",), sources=(world.line(),), pins=("tool version 1.* 900",))
    first, second, third = sources_list(lock).splitlines()
    assert (first, second) == (f"deb {world.main_url} bookworm main", f"deb {world.main_url} bookworm-updates main")
    assert third.startswith("deb [signed-by=/etc/apt/keyrings/ctk-") and third.endswith(
        f"{world.other_url} stable main"
    )
    assert base64.b64decode(lock.sources[2].key) == world.other.key.certificate
    assert lock.preferences == "Package: tool\nPin: version 1.*\nPin-Priority: 900\n"
    assert lock.build_id != world.lock(pockets=("updates",), sources=(world.line(),)).build_id


def test_deb822_with_the_key_in_it(world: World, tmp_path: Path) -> None:
    armour = base64.b64encode(world.other.key.certificate).decode()
    key = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{armour}\n-----END PGP PUBLIC KEY BLOCK-----"
    folded = "".join(f"\n {line or '.'}" for line in key.splitlines())
    file = tmp_path / "x.sources"
    file.write_text(f"Types: deb\nURIs: {world.other_url}\nSuites: stable\nComponents: main\nSigned-By:{folded}\n")
    assert versions(world.lock(source_files=(str(file),), include=("extra",)))["extra"] == "5"
    file.write_text(file.read_text() + "Enabled: no\n")
    with pytest.raises(Unsolvable):
        world.lock(source_files=(str(file),), include=("extra",))


def test_a_flat_repository(world: World) -> None:
    folder = world.other.folder / "flat"
    folder.mkdir()
    packages = (world.other.folder / "dists/stable/main/binary-amd64/Packages.xz").read_bytes()
    (folder / "Packages.xz").write_bytes(packages)
    import hashlib

    digest = hashlib.sha256(packages).hexdigest()
    release = f"Origin: Other\nDate: Mon, 02 Jan 2023 00:00:00 UTC\nSHA256:\n {digest} {len(packages)} Packages.xz\n"
    (folder / "InRelease").write_bytes(world.other.key.clearsign(release.encode()))
    lock = world.lock(sources=(world.line(suite="flat/"),), include=("extra",))
    assert versions(lock)["extra"] == "5"
    assert sources_list(lock).splitlines()[1].endswith(f"] {world.other_url} flat/")


def test_what_apt_takes_of_a_list_we_take(world: World, tmp_path: Path) -> None:
    """sources.list(5): $(ARCH), a file and a fingerprint in it, folders that are trusted as they are."""
    other = world.other
    (other.folder / "amd64").symlink_to(".")
    subprocess.run(["gzip", "-dk", other.folder / "dists/stable/main/binary-amd64/Packages.gz"], check=True)
    index = (other.folder / "dists/stable/main/binary-amd64/Packages").read_bytes()
    for name, data in (("plain/Packages", index), ("packed/Packages.gz", gzip.compress(index))):
        (other.folder / name).parent.mkdir()
        (other.folder / name).write_bytes(data)
    shutil.copytree(other.folder / "dists/stable", other.folder / "dists/amd64-loose")
    for name in ("InRelease", "Release", "Release.gpg"):
        (other.folder / "dists/amd64-loose" / name).unlink()
    (fingerprint,) = {str(one.fingerprint) for one in load_keyring(str(other.keyring)).certificates}
    signed = f"signed-by={other.keyring}"
    trusted = "trusted=yes"
    good = {
        f"deb [{signed}] {world.other_url}/$(ARCH) stable main": f"{world.other_url}/amd64 stable main",
        f"deb [{signed},{fingerprint}] {world.other_url} stable main": f"{world.other_url} stable main",
        f"deb [{trusted}] {world.other_url} plain/": f"deb [{trusted}] {world.other_url} plain/",
        f"deb [{trusted}] file:{other.folder} packed/": f"deb [{trusted}] file:{other.folder} packed/",
        f"deb [{trusted}] {world.other_url} $(ARCH)-loose main": f"{world.other_url} amd64-loose main",
    }
    for line, inside in good.items():
        lock = world.lock(sources=(line,), include=("extra",))
        assert versions(lock)["extra"] == "5", line
        assert sources_list(lock).splitlines()[1].endswith(inside)
    # The lock is of these very packages, though nothing signed says so.
    (other.folder / "plain/Packages").write_bytes(index.replace(b"Version: 5", b"Version: 6"))
    loose = [
        world.lock(sources=(f"deb [{trusted}] {world.other_url} {name}/",)).build_id for name in ("plain", "packed")
    ]
    assert loose[0] != loose[1]
    # The very key, told to the tree's apt as well: the file holds its other subkeys.
    lock = world.lock(sources=(f"deb [{signed},{_signing_key(other)}!] {world.other_url} stable main",))
    assert f".gpg,{_signing_key(other).upper()}!] " in sources_list(lock)
    for options, told in (
        (f"{signed},{fingerprint}!", "may sign it"),
        (f"{signed},{'0' * 40}", "none of its keys"),
    ):
        with pytest.raises(Untrusted, match=told):
            world.lock(sources=(f"deb [{options}] {world.other_url} stable main",))
    for line in (f"deb [{signed}] {world.other_url} plain/", f"deb [{trusted}] {world.other_url} none/"):
        with pytest.raises(Unreachable, match="neither InRelease nor Release"):
            world.lock(sources=(line,))


def _signing_key(archive: Archive) -> str:
    data = (archive.folder / "dists/stable/InRelease").read_bytes()
    ring = load_keyring(str(archive.keyring))
    return str(pysequoia.verify(bytes=data, store=lambda _: list(ring.certificates)).valid_sigs[0].signing_key)


@pytest.mark.parametrize("fields", ["Suite: stable\nCodename: stable\n", ""])
def test_a_source_that_was_added_may_call_itself_as_it_likes_and_is_told(fields: str, world: World) -> None:
    release = world.other.release("stable").decode().replace("Suite: stable\n", "").replace("Codename: stable\n", "")
    shutil.copytree(world.other.folder / "dists/stable", world.other.folder / "dists/any")
    world.other.sign("any", (fields + release).encode())
    events: list[Event] = []
    lock = world.lock(events.append, sources=(world.line(suite="any main"),), include=("extra",))
    assert versions(lock)["extra"] == "5"
    (told,) = [event.text for event in events if isinstance(event, Note) and event.warning]
    assert "asked for suite 'any'" in told and ("'stable'" if fields else "it names none") in told


def test_b1_one_sources_key_does_not_sign_for_another(world: World) -> None:
    """Neither the main archive with the other's key, nor the other way round, though both are known to the build."""
    theirs, ours = world.other.release("stable"), world.main.release("bookworm")
    world.other.sign("stable", theirs, world.main.key)
    with pytest.raises(Untrusted, match="no good signature by a key"):
        world.lock(sources=(world.line(),))
    world.other.sign("stable", theirs)
    world.main.sign("bookworm", ours, world.other.key)
    with pytest.raises(Untrusted, match="no good signature by a key"):
        world.lock(sources=(world.line(),))
    # A pocket is held to the keys of its suite.
    world.main.sign("bookworm", ours)
    world.main.sign("bookworm-updates", world.main.release("bookworm-updates"), world.other.key)
    with pytest.raises(Untrusted, match="no good signature by a key"):
        world.lock(pockets=("updates",), sources=(world.line(),))


def test_b1_a_source_without_a_key_of_its_own_is_held_to_the_suites(world: World) -> None:
    with pytest.raises(Untrusted, match="no good signature") as caught:
        world.lock(sources=(f"deb {world.other_url} stable main",))
    assert "signed-by=FILE" in caught.value.hint
    # A fingerprint chooses among the keys that are known; it brings none in.
    fingerprint = "0" * 40
    with pytest.raises(Untrusted):
        world.lock(sources=(world.line(f"signed-by={fingerprint}"),))


def test_b2_a_pin_does_not_make_an_unsigned_source_good(world: World) -> None:
    for name in ("InRelease", "Release.gpg"):
        (world.other.folder / "dists/stable" / name).unlink()
    for pin in ("* origin 127.0.0.1 1001", "tool release o=Other 1001"):
        with pytest.raises(Untrusted, match="not signed"):
            world.lock(sources=(world.line(),), pins=(pin,), include=("tool",))
    # Only its owner's word does, for that source alone, and it is said.
    events: list[Event] = []
    lock = world.lock(events.append, sources=(world.line("trusted=yes"),), include=("tool",))
    told = [event.text for event in events if isinstance(event, Note) and event.warning]
    assert len(told) == 1 and "'stable'" in told[0] and "NOT checked" in told[0]
    assert versions(lock)["tool"] == "9" and [bool(one.signed_by) for one in lock.sources] == [True, False]


def test_b3_the_genuine_release_of_one_suite_is_refused_in_the_place_of_another(world: World) -> None:
    """A mirror that answers for the pocket with the release itself: no update would ever come."""
    updates = world.main.folder / "dists/bookworm-updates"
    for name in ("InRelease", "Release", "Release.gpg"):
        (updates / name).write_bytes((world.main.folder / "dists/bookworm" / name).read_bytes())
    with pytest.raises(Untrusted, match="asked for suite 'bookworm-updates', the mirror sent 'bookworm'"):
        world.lock(pockets=("updates",))


def test_b3_an_expired_pocket_is_refused_though_the_suite_is_fresh(world: World) -> None:
    old = Suite("bookworm-updates", "bookworm-updates", date=time.time() - 9e5, valid_for_s=6e5)
    world.main.publish(old)
    with pytest.raises(Untrusted, match="it expired on"):
        world.lock(pockets=("updates",))
    # Said of one source, it holds for that one.
    with pytest.raises(Untrusted, match="it expired on"):
        world.lock(pockets=("updates",), sources=(world.line(f"signed-by={world.other.keyring} check-valid-until=no"),))


def test_b4_the_bytes_of_a_package_come_from_the_source_that_vouches_for_it(world: World) -> None:
    """Same name and version in two sources, other bytes: hash, size and address are of one paragraph."""
    mine = deb("tool", "1.0", Section="theirs")
    world.other.publish(Suite("stable", "stable", origin="Other", packages={"main": [mine]}))
    lock = world.lock(sources=(world.line(),), include=("tool",))
    (tool,) = [one for one in lock.packages if one.name == "tool"]
    ours = next(path for path in world.main.folder.rglob("tool_1.0_amd64.deb"))
    import hashlib

    assert (tool.source, tool.sha256) == (0, hashlib.sha256(ours.read_bytes()).hexdigest())


def test_b4_a_missing_pocket_is_no_reason_to_go_on_without(world: World) -> None:
    with pytest.raises(Unreachable, match="bookworm-security"):
        world.lock(pockets=("security",))


def test_broken_lists_are_refused(world: World, tmp_path: Path) -> None:
    for line in ("deb http://x", "deb [signed-by=/x http://x y z", "deb http://x stable", "deb http://x ./ main"):
        with pytest.raises(Malformed):
            world.lock(sources=(line,))
    with pytest.raises(Usage, match="no source of binary packages"):
        world.lock(sources=("deb-src http://x stable main",))
    with pytest.raises(Usage, match="no such file"):
        world.lock(source_files=(str(tmp_path / "none.list"),))


def test_b1_an_expired_key_is_told_and_counts_for_what_it_signed_in_its_time(world: World, tmp_path: Path) -> None:
    """Archived suites: decision 0002. Not silently: who builds from one reads when its key ran out."""
    key = Key()
    # The library dates a new key a minute back, so it is good for some three seconds more.
    key._key = pysequoia.Tsk.generate("Short <short@example.invalid>", validity_seconds=63)
    key.certificate = bytes(key._key.extract_certificate())
    archived = Archive(tmp_path / "archived", key)
    archived.publish(Suite("bookworm", "bookworm", packages={"main": BASE}))
    events: list[Event] = []
    request = {"mirror": str(archived.folder), "keyring": str(archived.keyring)}
    world.lock(events.append, **request)
    assert not [event for event in events if isinstance(event, Note)]
    until = pysequoia.Cert.from_bytes(key.certificate).expiration
    assert until is not None
    time.sleep(max(until.timestamp() - time.time() + 1, 0))
    world.lock(events.append, **request)
    (told,) = [event for event in events if isinstance(event, Note)]
    assert told.warning and f"expired on {until:%Y-%m-%d}" in told.text
