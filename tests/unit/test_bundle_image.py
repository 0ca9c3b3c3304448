"""An OCI image layout becomes edits of a spec (image spec, conversion.md)."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.bundle import build, image
from toolkit.bundle.build import SpecRequest
from toolkit.bundle.document import edited
from toolkit.errors import Invalid, NotFound, Untrusted, Usage
from toolkit.events import Event, Note
from toolkit.image.document import config as configs
from toolkit.image.document import media_types, platform
from toolkit.image.document.config import ImageConfig

CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "author": "somebody",
    "created": "2026-01-31T10:00:00Z",
    "config": {
        "Entrypoint": ["/bin/entry", "--flag"],
        "Cmd": ["serve"],
        "Env": ["PATH=/opt/bin:/bin", "A=b=c"],
        "User": "web:staff",
        "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"org.opencontainers.image.author": "the label wins", "k": "v"},
    },
}
MACHINE = platform.host().architecture


def layout(folder: Path, *configs: "tuple[dict[str, Any], str, dict[str, str] | None]", nested: bool = False) -> Path:
    """A layout of images: (configuration, tag, platform)."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(value: object, kind: str) -> dict[str, Any]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    entries = []
    for config, tag, where in configs:
        manifest = {
            "schemaVersion": 2,
            "config": blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [],
        }
        entry = blob(manifest, media_types.OCI_MANIFEST)
        if tag:
            entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if where:
            entry["platform"] = where
        entries.append(entry)
    index: dict[str, Any] = {"schemaVersion": 2, "manifests": entries}
    if nested:
        index = {"schemaVersion": 2, "manifests": [blob(index, media_types.OCI_INDEX)]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "rootfs/etc/passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
    (tmp_path / "rootfs/etc/group").write_text("root:x:0:\nweb:x:34:\nstaff:x:50:web\naudio:x:29:other,web\n")
    return tmp_path / "rootfs"


def parsed(config: dict[str, Any]) -> ImageConfig:
    return configs.read(json.dumps(config).encode(), "the configuration")


def spec_of(config: dict[str, Any], rootfs: Path, *command: str) -> dict[str, Any]:
    return edited({"process": {"args": ["sh"]}}, image.edits(parsed(config), image.in_folder(str(rootfs)), command))


def test_the_conversion(rootfs: Path) -> None:
    spec = spec_of(CONFIG, rootfs)
    assert spec["process"]["args"] == ["/bin/entry", "--flag", "serve"]
    assert spec["process"]["env"] == ["PATH=/opt/bin:/bin", "A=b=c"]
    assert spec["process"]["cwd"] == "/srv"
    assert spec["process"]["user"] == {"uid": 33, "gid": 50}
    assert spec["annotations"] == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.author": "the label wins",
        "org.opencontainers.image.created": "2026-01-31T10:00:00Z",
        "org.opencontainers.image.exposedPorts": "80/tcp,53/udp",
        "org.opencontainers.image.stopSignal": "SIGQUIT",
        "k": "v",
    }


def test_volumes_of_a_read_only_root(rootfs: Path) -> None:
    config = {"config": {"Volumes": {path: {} for path in ("/data", "/data/", "/srv/./x", "/there")}}}
    there = {"destination": "/there", "type": "bind", "source": "/x"}
    events: list[Event] = []

    def of(config: dict[str, Any], *, readonly: bool) -> list[dict[str, Any]]:
        spec = {"process": {"args": ["sh"]}, "root": {"readonly": readonly}, "mounts": [there]}
        lines = image.in_folder(str(rootfs))
        found: list[dict[str, Any]] = edited(spec, image.edits(parsed(config), lines, (), events.append))["mounts"]
        return found

    assert of(config, readonly=False) == [there]
    assert of(config, readonly=True) == [
        there,
        *(
            {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "tmpcopyup"]}
            for path in ("/data", "/srv/x")
        ),
    ]
    assert events == []
    bad = ["/", "/.", "data", "/../etc", "/a/../proc", "/proc", "//proc/x", "/./sys", "/dev/shm"]
    assert of({"config": {"Volumes": {path: {} for path in bad}}}, readonly=True) == [there]
    (note,) = events
    assert isinstance(note, Note) and note.warning and "/proc" in note.text
    many = {"config": {"Volumes": {f"/{number}": {} for number in range(1000)}}}
    assert len(of(many, readonly=True)) == 101


def test_a_command_stands_in_place_of_cmd(rootfs: Path) -> None:
    assert spec_of(CONFIG, rootfs, "sh", "-c")["process"]["args"] == ["/bin/entry", "--flag", "sh", "-c"]
    assert spec_of({"config": {}}, rootfs)["process"] == {"args": ["sh"], "cwd": "/"}


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("web", {"uid": 33, "gid": 34, "additionalGids": [50, 29]}),
        ("33", {"uid": 33, "gid": 34, "additionalGids": [50, 29]}),
        ("7", {"uid": 7, "gid": 0}),
        ("7:8", {"uid": 7, "gid": 8}),
        ("web:8", {"uid": 33, "gid": 8}),
        ("7:audio", {"uid": 7, "gid": 29}),
    ],
)
def test_users(user: str, found: dict[str, Any], rootfs: Path) -> None:
    assert spec_of({"config": {"User": user}}, rootfs)["process"]["user"] == found


@pytest.mark.parametrize("user", ["nobody-here", "web:nogroup"])
def test_users_that_are_not_there(user: str, rootfs: Path) -> None:
    with pytest.raises(Usage, match="no such"):
        spec_of({"config": {"User": user}}, rootfs)


def test_a_link_in_the_root_does_not_show_the_host_s_users(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("web:x:0:0::/:/bin/sh\n")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to(tmp_path / "passwd")
    with pytest.raises(Usage):
        spec_of({"config": {"User": "web"}}, rootfs)


def test_the_layout_s_image_for_this_machine(tmp_path: Path) -> None:
    other, ours = {"config": {"Cmd": ["other"]}}, {"config": {"Cmd": ["ours"]}}
    platforms = {"os": "linux", "architecture": "mips"}, {"os": "linux", "architecture": MACHINE}
    where = layout(tmp_path / "many", (other, "", platforms[0]), (ours, "", platforms[1]), nested=True)
    assert image.read(str(where)) == parsed(ours)
    only_other = layout(tmp_path / "other", (other, "", platforms[0]))
    with pytest.raises(NotFound, match="none of 1 is for"):
        image.read(str(only_other))


def test_tags(tmp_path: Path) -> None:
    one, two = {"config": {"Cmd": ["1"]}}, {"config": {"Cmd": ["2"]}}
    where = layout(tmp_path / "tags", (one, "1.0", None), (two, "2.0", None))
    assert image.read(f"{where}:2.0") == parsed(two)
    with pytest.raises(Usage, match="several"):
        image.read(str(where))
    with pytest.raises(NotFound):
        image.read(f"{where}:3.0")


def test_what_is_no_layout_or_was_changed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no OCI image layout"):
        image.read(str(tmp_path))
    where = layout(tmp_path / "bad", (CONFIG, "", None))
    for blob in (where / "blobs/sha256").iterdir():
        blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(Untrusted, match="its digest is"):
        image.read(str(where))
    (where / "index.json").write_text('{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}')
    with pytest.raises(Invalid):
        image.read(str(where))


def test_spec_from_image_keeps_what_is_asked_for_besides(tmp_path: Path, rootfs: Path) -> None:
    where = layout(tmp_path / "image", ({**CONFIG, "config": {**CONFIG["config"], "User": "5"}}, "latest", None))
    request = SpecRequest(bundle=str(tmp_path), from_image=str(where), env=("A=mine",), cwd="/tmp", args=("x",))
    spec = edited({}, build.edits(request, build.mounts.HostFiles.read()))
    assert spec["process"]["args"] == ["/bin/entry", "--flag", "x"]
    assert spec["process"]["env"] == ["PATH=/opt/bin:/bin", "A=mine"]
    assert (spec["process"]["cwd"], spec["process"]["user"]) == ("/tmp", {"uid": 5, "gid": 0})


def test_labels_that_would_steer_the_runtime_are_dropped_and_told(rootfs: Path) -> None:
    """S8: containerd CVE-2026-53488. What a runtime obeys is its caller's to say."""
    steering = {
        "run.oci.hooks.stdout": "/etc/cron.d/x", "run.oci.keep_original_groups": "1", "ctk.init": "true",
        "org.systemd.property.CollectMode": "'x'", "org.criu.config": "/etc/shadow", "ctk.what.comes": "1",
    }  # fmt: skip
    labels = {**steering, "run.ocimple": "v", "k": "v"}
    told: list[Any] = []
    spec = edited(
        {}, image.edits(parsed({"config": {"Labels": labels}}), image.in_folder(str(rootfs)), (), told.append)
    )
    assert spec["annotations"] == {"run.ocimple": "v", "k": "v"}
    assert len(told) == 1 and told[0].warning and "org.criu.config" in told[0].text and "1 more" in told[0].text
    told.clear()
    image_folder = layout(rootfs.parent / "image", ({"config": {"Labels": steering}}, "", None))
    build.make(SpecRequest(from_image=str(image_folder), annotation=("ctk.init=true",)), told.append)
    assert any("do not become annotations" in getattr(note, "text", "") for note in told)
    _, after = build.make(SpecRequest(from_image=str(image_folder), annotation=("ctk.init=true",)))
    assert after["annotations"] == {"ctk.init": "true"}


WRONG: list[Any] = [
    {"config": {"Entrypoint": "sh"}}, {"config": {"Env": {"A": "b"}}}, {"config": {"Env": [7]}}, {"config": []},
    {"config": {"Labels": ["k"]}}, {"config": {"Labels": {"k": {}}}}, {"config": {"User": 0}}, {"config": {"Cmd": 1}},
    {"config": {"ExposedPorts": 80}}, {"config": {"WorkingDir": ["/"]}}, {"os.features": {}}, {"author": []}, [], 7,
]  # fmt: skip


@pytest.mark.parametrize("config", WRONG, ids=repr)
def test_a_wrong_type_in_an_image_is_one_error(config: Any, tmp_path: Path, rootfs: Path) -> None:
    where = layout(tmp_path / "image", (config, "", None))
    with pytest.raises(Invalid, match="must be"):
        image.read(str(where))


@pytest.mark.parametrize("entry", ["=x", "="])
def test_a_variable_without_a_name_is_told_as_the_images(entry: str, tmp_path: Path, rootfs: Path) -> None:
    where = layout(tmp_path / "image", ({"config": {"Env": ["A=b", entry]}}, "", None))
    with pytest.raises(Invalid, match=rf"configuration.*config.Env.*'{entry}' has no name before its '='"):
        build.make(SpecRequest(from_image=str(where)))


@pytest.mark.parametrize("index", [
    '{"manifests": 7}', '{"manifests": [{"annotations": []}]}', '{"manifests": [{"platform": "linux"}]}',
    '{"manifests": [{"digest": []}]}', "[" * 100_000, '{"manifests": [{"platform": {"os": []}}]}', "\xff", "",
], ids=lambda text: text[:40])  # fmt: skip
def test_a_broken_index_is_one_error(index: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises((Invalid, NotFound)):
        image.read(str(tmp_path))


PLANTED: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "large": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_an_image_is_made_of_are_small_files(kind: str, tmp_path: Path) -> None:
    where = layout(tmp_path / "image", ({}, "", None))
    for path in (where / "index.json", *(where / "blobs/sha256").iterdir()):
        kept = path.read_bytes()
        path.unlink()
        PLANTED[kind](path)
        said = r"not a regular file|is a directory|large: the limit is \d+ bytes|\d{13} bytes, and \d+ were announced"
        with pytest.raises((NotFound, Untrusted), match=said):
            image.read(str(where))
        path.rmdir() if kind == "folder" else path.unlink()
        path.write_bytes(kept)
    assert image.read(str(where)) == parsed({})
