"""The archive fixtures against tools that did not come from here: gpgv, dpkg-deb and plain HTTP."""

import hashlib
import http.client
import io
import lzma
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Key, ubuntu_suite
from tests.fixtures.command import tool
from tests.fixtures.server import FileServer


def tiny(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path / "archive")
    hello = debs.make(
        {"Package": "hello", "Version": "1:2.10-3", "Depends": "libc6 (>= 2.34)"},
        {"./usr/bin/hello": b"#!/bin/sh\necho hello\n", "./usr/bin/hi": "-> hello"},
        {"postinst": "#!/bin/sh\nexit 0\n"},
        suffix="zst",
    )
    archive.publish(ubuntu_suite("", {"universe": [hello]}))
    return archive


def gpgv(archive: Archive, *files: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([tool("gpgv"), "--keyring", str(archive.keyring), *map(str, files)], capture_output=True)


def test_gpgv_trusts_the_release_and_no_other(tmp_path: Path) -> None:
    archive = tiny(tmp_path)
    dists = archive.folder / "dists/jammy"
    assert gpgv(archive, dists / "InRelease").returncode == 0
    assert gpgv(archive, dists / "Release.gpg", dists / "Release").returncode == 0
    archive.sign("jammy", archive.release("jammy"), Key("Somebody Else <x@example.invalid>"))
    assert gpgv(archive, dists / "InRelease").returncode != 0


def test_release_names_what_the_archive_holds(tmp_path: Path) -> None:
    archive = tiny(tmp_path)
    release = archive.release("jammy").decode()
    assert "Origin: Ubuntu\n" in release and "Components: main restricted universe multiverse\n" in release
    listed = [line.split() for line in release.partition("SHA256:")[2].splitlines() if line.startswith(" ")]
    packages = next(row for row in listed if row[2] == "universe/binary-amd64/Packages.xz")
    data = (archive.folder / "dists/jammy" / packages[2]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == packages[0] and len(data) == int(packages[1])
    by_hash = archive.folder / "dists/jammy/universe/binary-amd64/by-hash/SHA256" / packages[0]
    assert by_hash.read_bytes() == data
    stanza = debs.stanza(lzma.decompress(data).decode())
    assert stanza["Filename"] == "pool/universe/h/hello/hello_2.10-3_amd64.deb"
    deb = (archive.folder / stanza["Filename"]).read_bytes()
    assert hashlib.sha256(deb).hexdigest() == stanza["SHA256"]


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", ""])
def test_dpkg_deb_reads_what_we_pack(tmp_path: Path, suffix: str) -> None:
    deb = debs.make({"Package": "x"}, {"./usr/share/x": "text\n"}, {"prerm": "#!/bin/sh\n"}, suffix=suffix)
    path = debs.write(tmp_path, debs.repack(deb, suffix))
    contents = subprocess.run([tool("dpkg-deb"), "--fsys-tarfile", str(path)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(contents)) as tar:
        assert tar.getnames() == [".", "./usr", "./usr/share", "./usr/share/x"]
    shown = subprocess.run([tool("dpkg-deb"), "-f", str(path), "Version"], capture_output=True, text=True, check=True)
    assert shown.stdout == "1.0\n"
    sums = f"{hashlib.md5(b'text' + bytes([10])).hexdigest()}  usr/share/x\n"
    assert debs.scripts_of(path.read_bytes()) == {"md5sums": sums, "prerm": "#!/bin/sh\n"}


def test_server_misbehaves_as_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with FileServer(tmp_path).running() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

        def get(headers: "dict[str, str] | None" = None) -> tuple[int, bytes]:
            connection.request("GET", "/file", headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert get() == (200, b"0123456789")
        assert get({"Range": "bytes=4-"}) == (206, b"456789")
        server.misbehave("file", "status", times=1, code=503)
        assert get()[0] == 503
        assert get()[0] == 200
        assert server.connections == 1
        server.misbehave("file", "corrupt", times=1)
        assert get() == (200, b"01234" + bytes([ord("5") ^ 1]) + b"6789")
        server.misbehave("file", "truncate", times=1)
        with pytest.raises(http.client.IncompleteRead):
            get()
        server.misbehave("file", "close", times=1)
        connection.close()
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            get()
        connection.close()
        (tmp_path / "a+b~1").write_bytes(b"plus")
        with urllib.request.urlopen(server.url + "/a%2bb%7e1", timeout=10) as answer:
            assert answer.read() == b"plus"
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(server.url + "/../etc/passwd", timeout=10)
        missing.value.close()
        assert missing.value.code == 404
