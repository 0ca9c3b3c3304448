"""From a mirror to a lock, and from a lock to packages: the fake archive and its attacks (security rows B1 to B4)."""

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Key, Suite
from tests.fixtures.server import FileServer
from tests.fixtures.waiting import until
from toolkit.bootstrap.acquire.download import Download
from toolkit.bootstrap.facts.model import Lock, Package, Request
from toolkit.bootstrap.plan.plan_build import Solved, solve, solve_open
from toolkit.errors import ArchiveError, CtkError, Malformed, NotFound, Unreachable, Untrusted
from toolkit.events import Event, Note, Progressed, silent
from toolkit.fetch.http import Client

INDEX = "main/binary-amd64/Packages"


def deb(name: str, priority: str = "required", size: int = 100, **fields: str) -> bytes:
    content = b"".join(hashlib.sha256(f"{name}{n}".encode()).digest() for n in range(size))
    return debs.make(
        {"Package": name, "Version": "1.0+b1~x", "Priority": priority, **fields}, {f"./usr/share/{name}": content}
    )


def bookworm(**changes: object) -> Suite:
    packages = {"main": [deb("dpkg", Depends="libx, awk"), deb("libx", "optional", 3000), deb("mawk", Provides="awk")]}
    packages["main"] += [deb("apt", "important"), deb("usr-is-merged", "optional")]
    return replace(Suite("bookworm", "bookworm", packages=packages), **changes)  # type: ignore[arg-type]


@dataclass
class World:
    archive: Archive
    server: FileServer
    cache: Path

    def request(self, **changes: object) -> Request:
        request = Request(
            "bookworm", "", variant="minbase", architecture="amd64", mirror=self.server.url, keyring=self.keyring
        )
        return replace(request, **changes)  # type: ignore[arg-type]

    @property
    def keyring(self) -> str:
        return str(self.archive.keyring)

    def lock(self, **changes: object) -> Lock:
        return solve(self.request(**changes), silent)

    def path(self, name: str) -> Path:
        return self.archive.folder / "dists/bookworm" / name

    def resign(self, pattern: str, replacement: str) -> None:
        """Change the text of the Release file and sign it anew: what a legitimate but odd archive would send."""
        text = re.sub(pattern, replacement, self.archive.release("bookworm").decode(), count=1, flags=re.MULTILINE)
        self.archive.sign("bookworm", text.encode())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv("CTK_MIRROR", raising=False)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    archive = Archive(tmp_path / "archive")
    archive.publish(bookworm())
    with FileServer(archive.folder).running() as server:
        yield World(archive, server, tmp_path / "cache")


def names(lock: Lock) -> list[str]:
    return [package.name for package in lock.packages]


def test_a_lock_from_a_signed_archive(world: World) -> None:
    lock = world.lock()
    assert names(lock) == ["dpkg", "libx", "mawk", "usr-is-merged", "apt"]
    (source,) = lock.sources
    assert (source.origin, source.suite, source.components) == ("Debian", "bookworm", ("main",))
    assert len(source.signed_by) == 1 and len(source.release_sha256) == 64
    assert (lock.suite, lock.distribution, lock.architecture) == ("bookworm", "debian", "amd64")
    # By hash, so never out of step with the Release file; and only one form of the index.
    assert len(world.server.asked("/by-hash/SHA256/")) == 1 and not world.server.asked(INDEX)


def test_the_index_is_fetched_once_and_then_taken_from_the_cache(world: World) -> None:
    first = world.lock()
    world.server.requests.clear()
    assert world.lock().build_id == first.build_id
    assert world.server.asked() == ["/dists/bookworm/InRelease"]


def test_mirrors_without_by_hash_and_with_one_form_only(world: World) -> None:
    for path in world.path("main/binary-amd64/by-hash/SHA256").iterdir():
        path.unlink()
    world.path(INDEX + ".gz").unlink()
    assert names(world.lock())[0] == "dpkg"
    assert world.server.asked(INDEX + ".xz$")


def test_plain_folders_are_mirrors(world: World) -> None:
    folder = str(world.archive.folder)
    for mirror in (folder, f"file://{folder}", folder + "/"):
        assert names(world.lock(mirror=mirror))[0] == "dpkg"


def test_release_and_its_detached_signature_do_too(world: World) -> None:
    world.path("InRelease").unlink()
    assert world.lock().sources[0].signed_by
    world.path("Release.gpg").unlink()
    with pytest.raises(Untrusted, match=r"neither InRelease nor Release\.gpg"):
        world.lock()


def test_the_detached_form_only_where_the_other_is_not_there(world: World) -> None:
    world.server.misbehave("InRelease", "status", code=403)
    with pytest.raises(Unreachable):
        world.lock()
    assert not world.server.asked("Release.gpg")


def test_b1_text_outside_the_signed_part_is_refused(world: World) -> None:
    good = world.path("InRelease").read_bytes()
    for bad in (b"Codename: bookworm\n" + good, good + b"\nSHA256:\n forged\n", good + good):
        world.path("InRelease").write_bytes(bad)
        with pytest.raises(Malformed):
            world.lock()
        assert not world.server.asked("Packages|by-hash")


def test_b2_no_keyring_is_an_error_before_any_request(world: World, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match=r"missing\.pgp"):
        world.lock(keyring=str(tmp_path / "missing.pgp"))
    assert not world.server.asked("Packages|by-hash")
    # The shipped keyring knows nothing of the fake archive.
    with pytest.raises(Untrusted, match="no good signature"):
        world.lock(keyring="")


def test_b2_without_gpg_is_said_every_time(world: World) -> None:
    world.archive.sign("bookworm", world.archive.release("bookworm"), Key("Mallory <m@example.invalid>"))
    with pytest.raises(Untrusted):
        world.lock()
    events: list[Event] = []
    lock = solve(world.request(check_gpg=False), events.append)
    assert lock.sources[0].signed_by == ()
    assert [e.warning for e in events if isinstance(e, Note) and "NOT checked" in e.text] == [True]


def test_b3_replayed_future_and_foreign_releases_are_refused(world: World) -> None:
    for suite, word in (
        (bookworm(date=time.time() - 10 * 86400, valid_for_s=7 * 86400.0), "expired"),
        (bookworm(date=time.time() + 3 * 86400), "clock"),
        (bookworm(codename="trixie"), "asked for suite 'bookworm'"),
    ):
        if suite.codename == "trixie":
            suite = replace(suite, name="trixie")
        world.archive.publish(suite)
        if suite.name == "trixie":
            for name in ("InRelease", "Release", "Release.gpg"):
                data = (world.archive.folder / "dists/trixie" / name).read_bytes()
                world.path(name).write_bytes(data)
        with pytest.raises(Untrusted, match=word):
            world.lock()


def test_b3_an_expired_suite_on_purpose(world: World) -> None:
    world.archive.publish(bookworm(date=time.time() - 10 * 86400, valid_for_s=7 * 86400.0))
    events: list[Event] = []
    solve(world.request(check_date=False), events.append)
    assert any(isinstance(e, Note) and e.warning and "expired" in e.text for e in events)


def test_b3_md5_alone_is_refused(world: World) -> None:
    world.archive.publish(bookworm(hashes=("MD5Sum", "SHA1")))
    with pytest.raises(Untrusted, match="no SHA-256"):
        world.lock()


@pytest.mark.parametrize("fault", ["corrupt", "short", "oversize", "truncate"])
def test_b3_an_index_that_is_not_the_signed_one_is_refused(fault: str, world: World) -> None:
    world.server.misbehave("by-hash|Packages", fault)
    with pytest.raises((Untrusted, Unreachable)):
        world.lock()
    assert not [path for path in world.cache.rglob("*") if path.is_file()]


def test_b3_another_text_in_a_rightly_hashed_file_is_refused(world: World) -> None:
    # The compressed files are as signed, but unpack to another text than the one signed for.
    world.resign(r"^ ([0-9a-f]{64}) +(\d+) main/binary-amd64/Packages$", f" {'0' * 64} \\2 {INDEX}")
    with pytest.raises(Untrusted, match="SHA-256"):
        world.lock()


def test_a_decompression_bomb_is_stopped_at_the_promised_size(world: World) -> None:
    world.resign(r"^ ([0-9a-f]{64}) +(\d+) main/binary-amd64/Packages$", f" \\1 17 {INDEX}")
    with pytest.raises(Untrusted, match="17 bytes"):
        world.lock()


def test_b4_a_path_out_of_the_mirror_is_refused(world: World) -> None:
    main = [deb("dpkg", Filename="x")]
    world.archive.publish(bookworm(packages={"main": main}, overrides={"dpkg": {"Section": "x\nFilename: ../x"}}))
    with pytest.raises(Malformed):
        world.lock()


def test_components_and_architectures(world: World) -> None:
    with pytest.raises(NotFound, match="component 'contrib'"):
        world.lock(components=("contrib",))
    with pytest.raises(NotFound, match="architecture 'sparc'"):
        world.lock(architecture="sparc")
    with pytest.raises(Malformed, match="lists no such index"):
        world.resign("^Architectures: .*$", "Architectures: all amd64 arm64")
        world.lock(architecture="arm64")


def test_an_unknown_suite_works_from_its_release_file(world: World) -> None:
    world.archive.publish(bookworm(name="zurg", codename="zurg", origin="Pizza"))
    lock = world.lock(suite="zurg")
    assert (lock.suite, lock.distribution) == ("zurg", "pizza") and "dpkg" in names(lock)
    with pytest.raises(NotFound):
        world.lock(suite="zurg", keyring="")
    with pytest.raises(NotFound):
        world.lock(suite="zurg", mirror="")


def test_a_suite_that_is_not_there(world: World) -> None:
    with pytest.raises(Unreachable, match="neither InRelease nor Release") as caught:
        world.lock(suite="trixie")
    assert "--mirror" in caught.value.hint


# Packages


class Landed:
    """What was handed on, with its bytes; `slow` makes the consumer the narrow place."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.bytes: dict[str, bytes] = {}
        self.wait_s = wait_s
        self.threads: set[int] = set()

    def __call__(self, package: Package, fd: int) -> None:
        time.sleep(self.wait_s)
        self.threads.add(threading.get_ident())
        self.bytes[package.name] = os.pread(fd, package.size_bytes + 1, 0)


@pytest.fixture
def solved(world: World) -> Iterator[Solved]:
    found = solve_open(world.request(), silent)
    found = replace(found, client=Client(stall_s=0.5, connect_s=1.0, retries=1, back_off_s=0.01))
    yield found
    found.client.close()


def open_files(world: World) -> list[str]:
    """What this process has open below the cache."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return [path for path in found if path.startswith(str(world.cache))]


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("fetch", "unpack")]


def test_packages_arrive_whole_and_are_counted(solved: Solved, world: World) -> None:
    events: list[Event] = []
    landed = Landed()
    download = Download(solved.client, solved.cache, solved.lock, landed, events.append, fetchers=1, consumers=2)
    download.run()
    for package in solved.lock.packages:
        assert hashlib.sha256(landed.bytes[package.name]).hexdigest() == package.sha256
    assert download.fetched_bytes == download.total_bytes == sum(p.size_bytes for p in solved.lock.packages)
    last = [event for event in events if isinstance(event, Progressed)][-1]
    assert (last.stage, last.done, last.total, last.unit) == ("download", last.total, download.total_bytes, "bytes")
    assert open_files(world) == workers() == []
    # The biggest came first, and now all are in the cache.
    assert "libx" in world.server.asked("pool/")[0]
    asked = len(world.server.requests)
    again = Download(solved.client, solved.cache, solved.lock, Landed(), silent)
    again.run()
    assert again.cached_bytes == download.total_bytes and len(world.server.requests) == asked


@pytest.mark.parametrize("fault", ["corrupt", "short", "oversize", "truncate", "stall", "endless", "close"])
def test_b4_a_package_that_is_not_the_signed_one_never_lands(fault: str, solved: Solved, world: World) -> None:
    world.server.misbehave("pool/.*/libx_", fault)
    landed = Landed()
    began = time.monotonic()
    with pytest.raises(ArchiveError) as caught:
        Download(solved.client, solved.cache, solved.lock, landed, silent).run()
    assert "libx" in str(caught.value)
    assert time.monotonic() - began < 10
    assert "libx" not in landed.bytes
    assert open_files(world) == workers() == []
    world.server.behave()
    libx = next(package for package in solved.lock.packages if package.name == "libx")
    assert solved.cache.open(libx.sha256, libx.size_bytes) is None


def test_b4_a_redirect_may_lead_elsewhere_but_not_to_other_bytes(solved: Solved, world: World) -> None:
    (world.archive.folder / "evil").write_bytes(b"evil")
    world.server.misbehave("pool/.*/libx_", "redirect", location="/evil")
    with pytest.raises(Untrusted, match="signed index states"):
        Download(solved.client, solved.cache, solved.lock, Landed(), silent).run()


def test_a_package_that_is_gone_names_itself(solved: Solved, world: World) -> None:
    world.server.misbehave("pool/.*/libx_", "status", code=404)
    with pytest.raises(Unreachable, match="fetch package 'libx'"):
        Download(solved.client, solved.cache, solved.lock, Landed(), silent).run()


def test_b13_a_cached_package_is_checked_again(solved: Solved, world: World) -> None:
    Download(solved.client, solved.cache, solved.lock, Landed(), silent).run()
    libx = next(package for package in solved.lock.packages if package.name == "libx")
    path = Path(solved.cache.path(libx.sha256))
    path.write_bytes(b"\0" * libx.size_bytes)
    landed = Landed()
    download = Download(solved.client, solved.cache, solved.lock, landed, silent)
    download.run()
    assert hashlib.sha256(landed.bytes["libx"]).hexdigest() == libx.sha256
    assert download.fetched_bytes == libx.size_bytes


def test_an_error_of_the_unpacker_stops_everything(solved: Solved) -> None:
    def consume(package: Package, fd: int) -> None:
        raise CtkError("unpack", because="disk full")

    with pytest.raises(CtkError, match="disk full"):
        Download(solved.client, solved.cache, solved.lock, consume, silent).run()
    assert workers() == []


def test_ctrl_c_waits_for_the_unpackers_and_leaves_no_descriptor(solved: Solved, world: World) -> None:
    world.server.misbehave("pool/.*/libx_", "slow", bytes_per_s=10_000)
    began = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        Download(solved.client, solved.cache, solved.lock, Landed(0.2), silent).run()
    assert time.monotonic() - began < 5
    assert "unpack" not in workers()
    until(lambda: not workers(), "the fetchers, which end with their next chunk", timeout_s=5)
    assert open_files(world) == []
    world.server.behave()
