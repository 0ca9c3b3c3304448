"""Images that grow without end, pulled by the command: refused or bounded, and in no more than 60 MB of memory."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command
from tests.fixtures.often import tries
from tests.fixtures.registry_faults import Handler, Server
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.store import check
from toolkit.image.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

GIB = 1 << 30
LIMIT_KIB = 60_000
# A child's peak includes its parent's memory up to exec(2), so a small process starts ctk, and says what it took.
MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, done.stderr, peak]))
"""


def zeros(mib: int) -> bytes:
    """A gzip stream of so many MiB of zeros: one member, again and again."""
    return gzip.compress(bytes(16 << 20), 9, mtime=0) * (mib // 16)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    registry.own_home(tmp_path, monkeypatch)
    with Server().running() as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=700", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def pulled(ctk: Command, server: Server, small_disk: Path) -> Callable[[], tuple[int, str]]:
    """Pull from the server; exit code and standard error. The memory and what is left are looked at here."""

    def call() -> tuple[int, str]:
        names = ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")
        env = {
            **ctk.environment,
            **{name: os.environ[name] for name in names},
            "CTK_IMAGES": str(small_disk / "images"),
        }
        words = [sys.executable, "-I", "-S", "-c", MEASURE, *ctk.argv("pull", f"{server.host}/bomb:1")]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        code, told, peak_kib = json.loads(done.stdout)
        assert 10_000 < peak_kib < LIMIT_KIB, f"{peak_kib} KiB"
        assert "Traceback" not in told
        store = Store(env["CTK_IMAGES"])
        assert [one for one in check.check(store) if not one.harmless] == []
        if store.place.exists:
            assert os.listdir(store.place.path("making")) == []
        return code, told

    return call


def serve(server: Server, layer: bytes, diff_id: str = "sha256:" + "0" * 64) -> None:
    """An image of this layer."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    described = manifest.described(config.encode(), media_types.OCI_CONFIG)
    one = Descriptor(media_types.OCI_LAYER_GZIP, digests.of(layer), len(layer))
    document = manifest.write(described, [one])
    for pattern, kind, data in (
        ("/manifests/", media_types.OCI_MANIFEST, document),
        (f"/blobs/{described.digest}", "application/octet-stream", config.encode()),
        (f"/blobs/{one.digest}", "application/octet-stream", layer),
    ):
        headers = {"Content-Type": kind}
        server.rule(pattern, lambda handler, data=data, headers=headers: handler.reply(200, data, headers))  # type: ignore[misc]
    server.rule("/v2/$", lambda handler: handler.reply(200, b"{}"))


def header(size: int, **pax: str) -> bytes:
    import tarfile

    member = tarfile.TarInfo("zeros")
    member.size, member.pax_headers = size, pax
    return gzip.compress(member.tobuf(tarfile.PAX_FORMAT), mtime=0)


def test_a_file_of_four_gibibytes(server: Server, pulled: Callable[[], tuple[int, str]]) -> None:
    layer = header(4 * GIB) + zeros(4096)
    assert len(layer) < 8 << 20
    serve(server, layer)
    code, told = pulled()
    assert code == 1 and "4294967296 bytes, but its file system has only" in told, told


def test_zeros_behind_the_end_of_the_tar(server: Server, pulled: Callable[[], tuple[int, str]]) -> None:
    """They have to be read: the diff id is of all of them."""
    serve(server, zeros(tries(1024, 4096)))
    code, told = pulled()
    assert code == 1 and "diff id" in told, told


def test_an_extended_header_of_four_gibibytes(server: Server, pulled: Callable[[], tuple[int, str]]) -> None:
    import tarfile

    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 4 * GIB
    serve(server, gzip.compress(member.tobuf(tarfile.GNU_FORMAT), mtime=0) + zeros(4096))
    code, told = pulled()
    assert code == 1 and "a header of 4294967296 bytes" in told, told


def endless(handler: Handler) -> None:
    """As many zeros as the client takes, up to 4 GiB."""
    handler.send_response(200)
    handler.send_header("Content-Type", media_types.OCI_MANIFEST)
    handler.send_header("Content-Length", str(4 * GIB))
    handler.end_headers()
    handler.close_connection = True
    if handler.command != "HEAD":
        for _ in range(4096):
            handler.wfile.write(bytes(1 << 20))


@pytest.mark.parametrize("kind", [media_types.OCI_MANIFEST, media_types.OCI_INDEX])
def test_a_document_of_four_gibibytes(kind: str, server: Server, pulled: Callable[[], tuple[int, str]]) -> None:
    server.rule("/v2/$", lambda handler: handler.reply(200, b"{}"))
    server.rule("/manifests/", endless)
    code, told = pulled()
    assert code == 1 and "4194304" in told, told


def test_a_configuration_of_four_gibibytes(server: Server, pulled: Callable[[], tuple[int, str]]) -> None:
    layer = images.image(images.layer({"x": b"x"})).layers[0]
    config = Descriptor(media_types.OCI_CONFIG, digests.of(b"config"), 4 * GIB)
    document = manifest.write(config, [layer])
    headers = {"Content-Type": media_types.OCI_MANIFEST}
    server.rule("/v2/$", lambda handler: handler.reply(200, b"{}"))
    server.rule("/manifests/", lambda handler: handler.reply(200, document, headers))
    server.rule("/blobs/", endless)
    code, told = pulled()
    assert code == 1 and server.lines("/blobs/") == [], told


@pytest.mark.slow
def test_a_comparison_of_200_000_paths_and_of_a_gibibyte(ctk: Command, tmp_path: Path) -> None:
    """What is known of the paths lies on the disk, and nothing of the file's content stays in memory."""
    many = images.layer({f"d/{number % 500}/a-file-with-a-name-{number}": b"" for number in range(200_000)})
    large = gzip.decompress(header(GIB)) + bytes(GIB)
    store = Store(str(tmp_path / "images"))
    place = store.destination()
    images.put(place, images.image(many, large), "bomb:1")
    place.commit()
    place.close()
    del many, large
    words = [sys.executable, "-I", "-S", "-c", MEASURE, *ctk.argv("image", "diff", "bomb:1")]
    env = {**ctk.environment, "CTK_IMAGES": store.place.folder}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    code, told, peak_kib = json.loads(done.stdout)
    assert (code, told) == (0, "")
    assert 10_000 < peak_kib < LIMIT_KIB, f"{peak_kib} KiB"
