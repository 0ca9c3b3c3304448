"""`ctk unpack`: a bundle from an image, as umoci makes it: the layers as one tree in `rootfs`, and config.json.

The image is read where it is, and nothing of it stays in the store. The tree has its name only when it is whole and
config.json is there; until then it is called `.rootfs.unpacking`. The bundle's folder is locked (flock) meanwhile, so
that what a killed process has left is told from what another is making.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from typing import NamedTuple

from toolkit.bundle import build, document, process, root
from toolkit.bundle import image as images
from toolkit.bundle.build import SpecRequest
from toolkit.bundle.document import Edit
from toolkit.children import rootless
from toolkit.errors import CtkError, Interrupted, InUse, NotFound, reason
from toolkit.events import Done, Emit, Finished, Note, Planned, Started
from toolkit.image.document import manifest as manifests
from toolkit.image.document import platform as platforms
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.manifest import Manifest
from toolkit.image.endpoint import Source
from toolkit.image.layer import apply
from toolkit.image.layer.apply import LayerSource
from toolkit.image.name import Location
from toolkit.image.store.place import is_at
from toolkit.image.transfer import places
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer import unpacked as unpacked_file
from toolkit.image.transfer.copy import Progress, short, side_by_side
from toolkit.image.transfer.places import Access
from toolkit.image.transfer.unpacked import Unpacked
from toolkit.image.trust import gate
from toolkit.kernel import atomic, rmtree_beneath, subids
from toolkit.text import counted, quote

ROOTFS, UNFINISHED = "rootfs", ".rootfs.unpacking"
_LAYERS = "layers"
STAGES = (("manifest", "Read the manifest"), (_LAYERS, "Unpack the layers"), ("spec", "Write config.json"))


class UnpackRequest(NamedTuple):
    """What `ctk unpack` was asked for. `platform` "" is this machine's.

    `rootless`: as root of a new user namespace, with the caller's subordinate ids; config.json maps the same ids. An
    ordinary user has no other way. `squash_ids` and `devices` are layer/policy.py's, `policy` is PullRequest's.
    """

    image: Location
    bundle: str
    platform: str = ""
    rootless: bool = False
    squash_ids: bool = False
    devices: bool = False
    plain_http: tuple[str, ...] = ()
    policy: str = ""


class _Work(NamedTuple):
    """What is done, maybe in a user namespace: `spec` has what must be known from outside it."""

    request: UnpackRequest
    spec: SpecRequest


def unpacked(request: UnpackRequest, emit: Emit) -> str:
    """Make the bundle; the digest of the image's manifest. Raises CtkError; then nothing that was made is left."""
    emit(Planned(STAGES))
    bundle = os.path.realpath(request.bundle)
    spec = SpecRequest(bundle=bundle, writable=True)
    request = request._replace(bundle=bundle)
    if os.geteuid() == 0 and not request.rootless:
        return _unpack(_Work(request, spec), emit)
    uids, gids = (tuple(":".join(map(str, line)) for line in lines) for lines in subids.of_caller())
    spec = spec._replace(rootless=True, uid_map=uids, gid_map=gids, namespace=("net",))
    digest: str = rootless.run(_unpack, _Work(request, spec), emit)
    return digest


def _unpack(work: _Work, emit: Emit) -> str:
    request, began = work.request, time.monotonic()
    access = Access(frozenset(request.plain_http), cancelled=threading.Event(), emit=emit)
    with _Folder(request) as folder, places.source(request.image, access) as source:
        digest, image, config = _read(source, request, emit)
        assert access.cancelled is not None
        # In a thread of its own: this one hears Ctrl-C, and stops a transfer in which nothing comes.
        lay_out = partial(_lay_out, source, image, config, folder.rootfd, request, access.cancelled, emit)
        side_by_side(lambda _: lay_out(), [image.config], 1, access.cancelled)
        started = time.monotonic()
        emit(Started("spec"))
        unfinished = os.path.join(request.bundle, UNFINISHED)
        _, spec = build.make(work.spec, emit, image=_edits(config, unfinished, emit))
        about = Unpacked(request.image, digest, str(config.platform), request.devices, request.plain_http)
        path = folder.finish(document.text(spec), "" if request.squash_ids else unpacked_file.text(about))
        emit(Finished("spec", time.monotonic() - started, path))
    emit(
        Done(
            f"unpacked {request.image} to {request.bundle}: {digest}",
            time.monotonic() - began,
            {"image": str(request.image), "digest": digest, "bundle": request.bundle},
            (f"ctk run -b {quote(request.bundle)} NAME",),
        )
    )
    return digest


def _read(source: Source, request: UnpackRequest, emit: Emit) -> tuple[str, Manifest, ImageConfig]:
    """The image's digest, manifest and configuration. Raises CtkError."""
    began = time.monotonic()
    emit(Started("manifest"))
    wanted = platforms.parse(request.platform) if request.platform else None
    tree = trees.one(source, "", wanted or platforms.host())
    raw, image = tree.documents[0]
    assert isinstance(image, Manifest)
    manifests.layer_codecs(image, str(request.image))
    gate.check(request.image, source, request.policy, tree.top.digest, tree.images, emit)
    config = trees.configuration(source, image)
    if wanted is not None and not platforms.rank(wanted, config.platform):
        because = f"it is for {config.platform}, and {wanted} was asked for"
        raise NotFound(f"unpack {request.image}", because=because)
    emit(Finished("manifest", time.monotonic() - began, raw.digest))
    return raw.digest, image, config


def _lay_out(
    source: Source,
    image: Manifest,
    config: ImageConfig,
    rootfd: int,
    request: UnpackRequest,
    cancelled: threading.Event,
    emit: Emit,
) -> None:
    began = time.monotonic()
    total = sum(one.size_bytes for one in image.layers)
    emit(Started(_LAYERS, total, "bytes"))
    progress = Progress(_LAYERS, total, emit)

    def wanted(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if cancelled.is_set():
                raise Interrupted(f"unpack {request.image}", because="interrupted")
            yield piece

    def layers() -> Generator[LayerSource, None, None]:
        for blob, diff_id in zip(image.layers, config.diff_ids, strict=True):
            with source.blob(blob) as pieces:
                yield LayerSource(wanted(progress.counted(pieces, short(blob.digest))), blob, diff_id)

    with contextlib.closing(layers()) as each:
        facts = apply.flat(rootfd, each, apply.Policy(request.squash_ids, request.devices))
    for text in facts.warnings:
        emit(Note(text, warning=True))
    if facts.skipped_devices:
        emit(Note(f"{facts.skipped_devices} device nodes of the image were left out; --devices makes them"))
    made = f"{counted(facts.layers, 'layer')}, {counted(facts.members, 'file')}"
    emit(Finished(_LAYERS, time.monotonic() - began, made))


def _edits(config: ImageConfig, rootfs: str, emit: Emit) -> Iterator[Edit]:
    """The image's edits; its command may be missing in the root, which the runtime says."""
    yield build.named_by_the_run
    yield process.args((root.shell(rootfs),))  # for an image that names no command
    yield from images.edits(config, images.in_folder(rootfs), (), emit)


class _Folder:
    """The bundle's folder while it is filled. What was made is removed again, unless `finish` was called."""

    def __init__(self, request: UnpackRequest) -> None:
        self._bundle = request.bundle
        self._doing = f"unpack {request.image} to {request.bundle!r}"
        self._made: list[str] = []  # folders that were not there before, the outermost first
        self._fd = self.rootfd = -1
        self._unfinished = self._config = False

    def __enter__(self) -> "_Folder":
        """Make the folder, and the one to unpack to. Raises InUse, CtkError."""
        try:
            self._take()
        except BaseException as error:
            self._undo()
            if isinstance(error, OSError):
                raise self._failed(error) from None
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
        self._close()

    def finish(self, config: str, image: str) -> str:
        """Write config.json and, unless `image` is "", the file about the image, then give the tree its name.

        Returns the path of config.json. Raises InUse, CtkError.
        """
        self._config = True
        try:
            path = document.write(self._bundle, config)
        except InUse:
            self._config = False  # somebody else's
            raise
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unpacked_file.FILE, dir_fd=self._fd)  # of an earlier root
            if image:
                atomic.replace(unpacked_file.FILE, image.encode(), dir_fd=self._fd)
            os.rename(UNFINISHED, ROOTFS, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise self._failed(error) from None
        self._unfinished = self._config = False
        self._made.clear()
        return path

    def _take(self) -> None:
        missing = [self._bundle]
        while not os.path.lexists(missing[-1]):
            missing.append(os.path.dirname(missing[-1]))
        for path in missing[-2::-1]:
            self._made.append(path)  # first: an interruption may come between any two lines
            os.mkdir(path, 0o700)  # a tree has setuid programs, which no other user of the host is to run
            os.chmod(path, 0o700)
        self._fd = os.open(self._bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not is_at(self._fd, self._bundle):
                raise BlockingIOError  # who made it has just removed it
        except BlockingIOError:
            raise InUse(self._doing, because="another ctk unpacks an image there now") from None
        for name in (ROOTFS, document.FILE_NAME):
            if os.path.lexists(os.path.join(self._bundle, name)):
                because, hint = f"there is a {name!r} in it already", "name another folder, or remove it"
                raise InUse(self._doing, because=because, hint=hint)
        if os.path.lexists(os.path.join(self._bundle, UNFINISHED)):
            rmtree_beneath.remove(self._fd, UNFINISHED)  # a killed process has left it
        self._unfinished = True
        os.mkdir(UNFINISHED, dir_fd=self._fd)
        self.rootfd = os.open(UNFINISHED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        os.fchmod(self.rootfd, 0o755)  # unless a layer says otherwise

    def _undo(self) -> None:
        with contextlib.suppress(OSError, CtkError):
            if self._unfinished:
                rmtree_beneath.remove(self._fd, UNFINISHED)
        for name in (document.FILE_NAME, unpacked_file.FILE) if self._config else ():
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
        while self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self._made.pop())
        self._close()

    def _close(self) -> None:
        for fd in (self.rootfd, self._fd):
            if fd >= 0:
                os.close(fd)
        self.rootfd = self._fd = -1

    def _failed(self, error: OSError) -> CtkError:
        return CtkError(self._doing, because=reason(error), hint="name a folder of yours with --bundle")
