"""Copies between a layout and a registry over a connection that breaks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry, registry_faults
from tests.fixtures.registry import DebianRegistry
from tests.fixtures.registry_faults import Server
from toolkit.errors import Unreachable
from toolkit.events import Event, Progressed
from toolkit.image import layout
from toolkit.image.name import locate
from toolkit.image.registry import upload
from toolkit.image.transfer import copy as copying
from toolkit.image.transfer.push import CopyRequest, copy

ONE = images.image(images.layer({"etc/": b"", "etc/one": bytes(range(256)) * 2000}), codec="")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("behind")) as running:
        yield running


@pytest.fixture
def server(behind: DebianRegistry) -> Iterator[Server]:
    with Server(behind.host).running() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 10_000)  # the layer goes in one stream
    monkeypatch.setattr(copying, "_BACK_OFF_S", 0.01)
    destination = layout.open_destination(locate(f"oci:{tmp_path}/layout:it"))
    images.put(destination, ONE, "it")
    destination.commit()
    destination.close()
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


def test_a_stream_that_broke_off_is_sent_again(server: Server, tmp_path: Path) -> None:
    (layer,) = ONE.layers
    server.rule(f"PUT .*{layer.digest.partition(':')[2]}", registry_faults.cut_upload(100_000), times=2)
    events: list[Event] = []
    request = CopyRequest(locate(f"oci:{tmp_path}/layout:it"), locate(f"docker://{server.host}/one:1"))
    assert copy(request, events.append) == ONE.raw.digest
    assert images.equal(registry.opened(server.host, "one:1"), ONE)
    assert len(server.lines(f"PUT .*{layer.digest.partition(':')[2]}")) == 3
    done = [event.done for event in events if isinstance(event, Progressed)]
    assert done == sorted(done) and done[-1] == sum(len(blob) for blob in ONE.blobs.values())


def test_one_that_breaks_off_each_time_is_told(server: Server, tmp_path: Path) -> None:
    (layer,) = ONE.layers
    server.rule(f"PUT .*{layer.digest.partition(':')[2]}", registry_faults.cut_upload(100_000))
    request = CopyRequest(locate(f"oci:{tmp_path}/layout:it"), locate(f"docker://{server.host}/two:1"))
    with pytest.raises(Unreachable, match="push sha256:") as caught:
        copy(request, lambda event: None)
    assert "sends it again" in caught.value.hint
    assert len(server.lines(f"PUT .*{layer.digest.partition(':')[2]}")) == 3 and not server.lines("PUT .*/manifests/")
