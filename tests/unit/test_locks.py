"""Locks, snapshots, what changed between two of them, bills of materials: with the fake archive."""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Suite
from tests.fixtures.server import FileServer
from toolkit.bootstrap.acquire import snapshot
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.facts.suites import lookup
from toolkit.bootstrap.install.apt_files import sources_list
from toolkit.bootstrap.output import licences, sbom
from toolkit.bootstrap.plan.plan_build import solve
from toolkit.bootstrap.resolve import diff, lockfile
from toolkit.errors import HostLacks, Malformed, NotFound, Untrusted, Usage
from toolkit.events import Event, Note, silent

BASE = ["dpkg", "apt", "usr-is-merged"]


def deb(name: str, version: str = "1.0", **fields: str) -> bytes:
    known = {"dpkg": {"Priority": "required"}, "apt": {"Priority": "important"}}.get(name, {"Priority": "optional"})
    return debs.make({"Package": name, "Version": version, **known, **fields}, {f"./usr/share/{name}": version})


def publish(archive: Archive, *more: bytes, date: float = 0.0, suite: str = "bookworm") -> None:
    packages = {"main": [*map(deb, BASE), *more]}
    archive.publish(Suite(suite, suite, packages=packages, date=date, valid_for_s=7 * 86400.0))


class World:
    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder, self.server = folder, server
        self.archive = Archive(folder / "debian")
        publish(self.archive, deb("tool"))

    def request(self, **changes: object) -> Request:
        request = Request(
            "bookworm",
            "",
            variant="minbase",
            architecture="amd64",
            mirror=self.server.url + "/debian",
            keyring=str(self.archive.keyring),
        )
        return replace(request, **changes)  # type: ignore[arg-type]

    def lock(self, **changes: object) -> Lock:
        return solve(self.request(**changes), silent)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("CTK_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    with FileServer(folder).running() as server:
        yield World(folder, server)


def test_a_lock_read_back_is_the_same_and_asks_the_archive_nothing(world: World, tmp_path: Path) -> None:
    file = str(tmp_path / "a.lock")
    first = world.lock(include=("tool",), lock=file)
    publish(world.archive, deb("tool", "2.0"))
    world.server.requests.clear()
    again = world.lock(locked=file, mirror="")
    assert again == first and not world.server.requests
    # Its mirror may be another one: then the tree's list of sources is, too.
    moved = world.lock(locked=file, mirror=world.server.url + "/elsewhere")
    assert moved.sources[0].mirror.endswith("/elsewhere") and moved.build_id != first.build_id


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"version": 99}, Malformed, "of version 99"),
        ({"packages": None}, Malformed, "not a lock of ctk"),
        ({"sources": []}, Malformed, "missing"),
        ({"suite": "trixie"}, Usage, "of suite 'trixie'"),
        ({"architecture": "arm64"}, Usage, "for 'arm64', not 'amd64'"),
        ({"epoch": "17"}, Usage, "SOURCE_DATE_EPOCH=17"),
    ],
)
def test_a_lock_that_is_not_right_is_refused(
    world: World, tmp_path: Path, change: dict[str, object], error: type[Exception], word: str
) -> None:
    file = tmp_path / "a.lock"
    document = lockfile.document(world.lock())
    if change.get("suite"):
        document["sources"][0]["suite"] = change["suite"]
    file.write_text(json.dumps({**document, **change}))
    with pytest.raises(error, match=word):
        world.lock(locked=str(file))


@pytest.mark.parametrize(
    ("field", "value"),
    [("Filename", "../../etc/passwd"), ("Filename", "/etc/passwd"), ("SHA256", "b" * 64), ("Version", "9")],
)
def test_b4_a_lock_leads_nowhere_else_and_says_one_thing(world: World, tmp_path: Path, field: str, value: str) -> None:
    file = tmp_path / "a.lock"
    document = lockfile.document(world.lock())
    document["packages"][0]["fields"][field] = value
    file.write_text(json.dumps(document))
    with pytest.raises(Malformed):
        world.lock(locked=str(file))


def test_locks_that_are_no_json_or_not_there(world: World, tmp_path: Path) -> None:
    (tmp_path / "torn.lock").write_text('{"version": 1, "pack')
    with pytest.raises(Malformed, match="not JSON"):
        world.lock(locked=str(tmp_path / "torn.lock"))
    with pytest.raises(NotFound, match="no such file"):
        world.lock(locked=str(tmp_path / "none.lock"))


def test_the_epoch_belongs_to_the_build_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without = world.lock().build_id
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert world.lock().build_id != without


def test_a_snapshot_is_the_archive_as_it_was(world: World, tmp_path: Path) -> None:
    """A service of snapshot's shape: a folder for each moment, below it the archive."""
    old = Archive(world.folder / "snapshot/20230102T000000Z", world.archive.key)
    publish(old, deb("tool", "0.5"), date=1_672_531_200.0)  # 1 January 2023, valid for a week
    events: list[Event] = []
    request = world.request(mirror=world.server.url + "/snapshot", snapshot="2023-01-02", include=("tool",))
    lock = solve(request, events.append)
    assert {one.name: one.version for one in lock.packages}["tool"] == "0.5"
    assert any(isinstance(event, Note) and "is the state of Sun, 01 Jan 2023" in event.text for event in events)
    assert sources_list(lock) == (
        f"deb [check-valid-until=no] {world.server.url}/snapshot/20230102T000000Z bookworm main\n"
    )
    placed = world.request(mirror=world.server.url + "/snapshot/{date}", snapshot="20230102T000000Z", include=("tool",))
    assert solve(placed, silent).build_id == lock.build_id


def test_b3_a_snapshot_that_is_newer_than_its_moment_is_refused(world: World) -> None:
    publish(Archive(world.folder / "snapshot/20230102T000000Z", world.archive.key))
    with pytest.raises(Untrusted, match="later than the time asked for"):
        world.lock(mirror=world.server.url + "/snapshot", snapshot="2023-01-02")


def test_moments_and_where_the_table_says_they_are() -> None:
    assert snapshot.timestamp("2026-11-20") == snapshot.timestamp("20261120") == "20261120T000000Z"
    assert snapshot.timestamp("2026-11-20T12:34:56Z") == snapshot.timestamp("20261120T123456Z") == "20261120T123456Z"
    for wrong in ("yesterday", "2026-13-01", "2026-11", ""):
        with pytest.raises(Usage):
            snapshot.timestamp(wrong)
    request = Request("bookworm", "", snapshot="20261120")
    for suite, end in (("bookworm", "/archive/debian/20261120T000000Z"), ("jammy", "/ubuntu/20261120T000000Z")):
        assert snapshot.mirror(request, lookup(suite)).mirror.endswith(end)
    debian = lookup("bookworm").distribution
    assert debian is not None
    assert snapshot.security_mirror(request, debian).endswith("/archive/debian-security/20261120T000000Z")
    here = replace(request, mirror="http://localhost/archive/debian/{date}")
    assert snapshot.security_mirror(here, debian) == "http://localhost/archive/debian-security/20261120T000000Z"
    with pytest.raises(NotFound, match="no snapshot service"):
        snapshot.mirror(request, replace(lookup("bookworm"), distribution=None))


def test_what_changed(world: World, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a.lock"), str(tmp_path / "b.lock")
    publish(world.archive, deb("up", "1.9"), deb("down", "2"), deb("gone"), deb("same"), deb("moved"))
    world.lock(include=("up", "down", "gone", "same", "moved"), lock=a)
    rebuilt = deb("same", Section="x")
    publish(world.archive, deb("up", "1.10"), deb("down", "1"), deb("new"), rebuilt, deb("moved", Architecture="all"))
    world.lock(include=("up", "down", "new", "same", "moved"), lock=b)
    assert [str(change) for change in diff.compare(a, b)] == [
        "v down:amd64 2 -> 1",
        "- gone:amd64 1.0",
        "! moved:all 1.0: same version, different contents",
        "+ new:amd64 1.0",
        "! same:amd64 1.0: same version, different contents",
        "^ up:amd64 1.9 -> 1.10",
    ]
    assert diff.compare(a, a) == []
    document = json.loads(json.dumps(diff.as_json(a, b, diff.compare(a, b))))
    assert document["changes"][5] == {
        "name": "up",
        "architecture": "amd64",
        "kind": "upgraded",
        "before": "1.9",
        "after": "1.10",
    }


def test_a_root_is_what_its_dpkg_says(world: World, tmp_path: Path) -> None:
    file = str(tmp_path / "a.lock")
    world.lock(lock=file)
    status = tmp_path / "root/var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    installed = "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0\n\n" for name in BASE
    )
    status.write_text(installed + "Package: left\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n")
    assert diff.compare(file, str(tmp_path / "root")) == []
    with pytest.raises(NotFound, match="var/lib/dpkg/status"):
        diff.compare(file, str(tmp_path))


COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+ or Artistic

Files: debian/*
Copyright: somebody else
License: Expat
 Permission is hereby granted
"""


def test_licences_are_told_where_they_are_known() -> None:
    expression = licences.expression
    assert expression(COPYRIGHT) == "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT"
    assert expression(COPYRIGHT.replace(b"Expat", b"my-own-words")) == ""
    assert expression(COPYRIGHT.replace(b"GPL-2+ or Artistic", b"GPL-2+ or Artistic and BSD-3-clause")) == ""
    assert expression(b"This package is free.\nLicense: GPL-2\n") == ""
    assert expression(COPYRIGHT + b"\xff\n") == ""


def test_a_licence_is_read_below_the_root_only(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(COPYRIGHT)
    for name, target in (("evil", "/outside"), ("evil2", "../../../../../outside")):
        folder = tmp_path / "root/usr/share/doc" / name
        folder.mkdir(parents=True)
        (folder / "copyright").symlink_to(str(tmp_path) + target if target.startswith("/") else target)
    fine = tmp_path / "root/usr/share/doc/fine"
    fine.mkdir()
    (fine / "copyright").write_bytes(COPYRIGHT)
    rootfd = os.open(tmp_path / "root", os.O_RDONLY)
    try:
        assert licences.licence(rootfd, "fine").endswith("AND MIT")
        assert licences.licence(rootfd, "evil") == licences.licence(rootfd, "evil2") == ""
    finally:
        os.close(rootfd)


def test_a_bill_is_the_same_for_the_same_build(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    lock = world.lock()
    stated = {"dpkg": "GPL-2.0-or-later", "apt": "MIT AND Zlib"}
    for write in (sbom.spdx, sbom.cyclonedx):
        text = write(lock, stated)
        assert text == write(lock, stated) and "GPL-2.0-or-later" in text and "2023-11-14T22:13:20" in text
    assert io.StringIO(sbom.spdx(lock, stated)).readline() == "{\n"


def test_a_bill_that_cannot_be_written_is_refused_at_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("spdx", "spdx=", "swid=x"):
        with pytest.raises(Usage, match="KIND=FILE"):
            world.lock(sboms=(wrong,))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HostLacks, match="not installed") as caught:
        world.lock(sboms=("spdx=x",))
    assert "ctk-oci[sbom]" in caught.value.hint and not world.server.requests
