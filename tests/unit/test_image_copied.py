"""What a copy refuses before it moves anything."""

from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.images import AMD64, ARM64
from toolkit.errors import Invalid
from toolkit.events import silent
from toolkit.image import layout
from toolkit.image.document import manifest, media_types
from toolkit.image.endpoint import Raw
from toolkit.image.name import locate
from toolkit.image.store.store import Store
from toolkit.image.transfer.push import CopyRequest, copy

TAR = images.layer({"etc/": b"", "etc/one": b"1"})
GOOD = images.image(TAR, platform=AMD64)
BAD = images.image(TAR, platform=ARM64, rootfs={"type": "layers", "diff_ids": []})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A layout with both images, an index of them, and an artifact with an image's configuration."""
    monkeypatch.setenv("CTK_IMAGES", str(tmp_path / "images"))
    path = f"oci:{tmp_path}/layout"
    into = layout.open_destination(locate(path))
    for one, called in ((GOOD, "good"), (BAD, "bad")):
        images.put(into, one, called)
    into.put_manifest(images.index(GOOD, BAD, platforms=(AMD64, ARM64)), "both")
    note = manifest.described(b"{}", "application/vnd.example+json")
    into.put_blob(note, iter([b"{}"]))
    data = manifest.write(BAD.config, [note, note])
    into.put_manifest(Raw(data, media_types.OCI_MANIFEST, manifest.described(data, "").digest), "artifact")
    into.commit()
    into.close()
    return path


@pytest.mark.parametrize("to", ["oci:{}/to:x", "oci-archive:{}/to", "docker-archive:{}/to:x", "store:x"])
@pytest.mark.parametrize(("name", "every"), [("bad", False), ("both", True)])
def test_fewer_diff_ids_than_layers(name: str, every: bool, to: str, source: str, tmp_path: Path) -> None:
    request = CopyRequest(
        locate(f"{source}:{name}"), locate(to.format(tmp_path)), "" if every else "linux/arm64", every
    )
    with pytest.raises(Invalid, match=r"rootfs.diff_ids: has 0 entries, and the manifest has 1 layer"):
        copy(request, silent)
    assert not (tmp_path / "to").exists() and not Store().entries()


def test_the_store_takes_none_from_anybody(source: str, tmp_path: Path) -> None:
    into = Store().destination()
    with pytest.raises(Invalid, match="the manifest has 1 layer"):
        images.put(into, BAD, "x")
    into.close()
    assert not Store().entries()


@pytest.mark.parametrize("name", ["good", "artifact"])
def test_what_is_whole_or_no_root(name: str, source: str, tmp_path: Path) -> None:
    assert copy(CopyRequest(locate(f"{source}:{name}"), locate(f"oci:{tmp_path}/to:x")), silent)
