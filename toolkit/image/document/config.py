"""The image configuration (image-spec 1.1, config.md): how its program is started, and what its layers are.

`raw` are the bytes that its digest is of, the image id. A field that nobody here knows is kept there.
"""

from typing import NamedTuple

from toolkit.errors import Invalid
from toolkit.image import digest as digests
from toolkit.image.document import fields
from toolkit.image.document.fields import Fields
from toolkit.image.document.platform import Platform
from toolkit.text import counted, number

_IMAGE = (
    "created", "author", "architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history",
)  # fmt: skip
_RUN = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "Shell", "OnBuild", "ArgsEscaped", "Memory", "MemorySwap", "CpuShares",
)  # fmt: skip
_HISTORY = ("created", "author", "created_by", "comment", "empty_layer")
_NO_USER = 1 << 31  # Go reads an id into an int32, and what is beyond became root (CVE-2024-40635)


class Run(NamedTuple):
    """`config` of the configuration: the execution parameters. What is not set is empty."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    stop_signal: str = ""
    shell: tuple[str, ...] = ()


class History(NamedTuple):
    """How one layer came to be; `empty_layer` is a step that has changed no file."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


class ImageConfig(NamedTuple):
    """The configuration of an image. `platform.variant` and the texts are "" where it does not say."""

    raw: bytes
    platform: Platform
    os_version: str
    os_features: tuple[str, ...]
    created: str
    author: str
    run: Run
    diff_ids: tuple[str, ...]
    history: tuple[History, ...]


def read(data: bytes, document: str) -> ImageConfig:
    """The configuration in `data`. Raises Invalid."""
    part = fields.read(data, document, _IMAGE)
    run = part.object("config", _RUN)
    rootfs = part.object("rootfs", ("type", "diff_ids"))
    diff_ids: tuple[str, ...] = ()
    if rootfs is not None:
        if rootfs.text("type") not in ("", "layers"):
            raise rootfs.invalid("type", "must be 'layers'")
        diff_ids = rootfs.texts("diff_ids")
    for one in diff_ids:
        digests.check(one, document, "rootfs.diff_ids")
    return ImageConfig(
        data,
        Platform(part.text("os"), part.text("architecture"), part.text("variant")),
        part.text("os.version"),
        part.texts("os.features"),
        part.text("created"),
        part.text("author"),
        Run() if run is None else _run(run),
        diff_ids,
        tuple(_history(one) for one in part.objects("history", _HISTORY)),
    )


def _run(part: Fields) -> Run:
    user = part.text("User")
    for word in user.split(":"):
        if word.isdecimal() and not 0 <= number(word) < _NO_USER:
            raise part.invalid("User", f"{user!r} is beyond the ids that there are")
    for entry in part.texts("Env"):
        if "\0" in entry:
            raise part.invalid("Env", f"{entry!r} has a NUL byte in it")
    return Run(
        user,
        part.keys("ExposedPorts"),
        part.texts("Env"),
        part.texts("Entrypoint"),
        part.texts("Cmd"),
        part.keys("Volumes"),
        part.text("WorkingDir"),
        part.pairs("Labels"),
        part.text("StopSignal"),
        part.texts("Shell"),
    )


def _history(part: Fields) -> History:
    return History(
        part.text("created"),
        part.text("created_by"),
        part.text("author"),
        part.text("comment"),
        part.flag("empty_layer"),
    )


def check_layers(config: ImageConfig, layers: int, document: str) -> None:
    """Raise Invalid unless there is one diff id for each of the manifest's layers."""
    if len(config.diff_ids) != layers:
        because = f"has {len(config.diff_ids)} entries, and the manifest has {counted(layers, 'layer')}"
        raise Invalid("rootfs.diff_ids", because, document=document)


def chain_ids(diff_ids: tuple[str, ...]) -> list[str]:
    """The chain id of each layer and all below it (config.md, "Layer ChainID")."""
    chain: list[str] = []
    for one in diff_ids:
        chain.append(digests.of(f"{chain[-1]} {one}".encode()) if chain else one)
    return chain
