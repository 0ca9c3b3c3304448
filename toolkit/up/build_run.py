"""RUN of `ctk build`: a container on the layers that are there, run by ctk itself; what it has changed is a layer.

The container has the host's network or none, like every container of ctk's, and the rights that installing packages
needs. Its writable layer is in the build's own folder.
"""

import os
from collections import deque
from typing import Any

from toolkit.bundle import build as specs
from toolkit.bundle import document
from toolkit.bundle import image as images
from toolkit.bundle.build import SpecRequest
from toolkit.children import rootless
from toolkit.errors import BuildFailed, CtkError, reason
from toolkit.events import Emit, Line
from toolkit.image.build import layers
from toolkit.image.build.build import RunStep
from toolkit.image.build.instructions import HOST
from toolkit.image.document.config import ImageConfig, Run
from toolkit.image.document.platform import Platform
from toolkit.image.layer import differ, merged, mount_points
from toolkit.image.layer.forms import form_here
from toolkit.image.store.builds import Layer
from toolkit.kernel import rmtree_beneath
from toolkit.up import launch

_TAIL = 20
_LINE_BYTES = 16 << 10


def run(step: RunStep, emit: Emit) -> Layer | None:
    """Carry out a RUN (build.Runner). Raises BuildFailed with its last lines; CtkError."""
    folder = os.path.join(step.work.folder, f"run-{os.urandom(4).hex()}")
    try:
        os.makedirs(os.path.join(folder, "rootfs"), 0o700)
    except OSError as error:
        raise CtkError(step.doing, because=reason(error)) from None
    spec = _spec(step, folder)
    document.write(folder, document.text(spec), force=True)
    _carried_out(step, folder, emit)
    return rootless.as_root(_packed, (step, folder, mount_points.of(spec)), emit)


def _spec(step: RunStep, folder: str) -> dict[str, Any]:
    ordinary = os.geteuid() != 0
    request = SpecRequest(
        bundle=folder,
        rootless=ordinary,
        userns=ordinary,
        namespace=("net",) if ordinary and step.network != HOST else (),
        share_net=step.network == HOST,
        writable=True,
        hostname="build",
        terminal=False,
        no_new_privileges=False,
    )
    run = Run(user=step.user, env=step.env, working_dir=step.folder)
    image = ImageConfig(b"", Platform("", ""), "", (), "", "", run, (), ())
    try:
        return specs.make(request, image=images.edits(image, _lines_of(step), step.argv))[1]
    except CtkError as error:
        hint = "a RUN with useradd makes one; a number needs none" if step.user else error.hint
        raise type(error)(step.doing, because=f"{error.doing}: {error.because}", hint=hint) from None


def _lines_of(step: RunStep) -> images.Lines:
    def lines(path: str) -> list[str]:
        try:
            data = merged.read(step.lowers, path, images.LIMIT_BYTES)
        except OSError:
            return []
        return data.decode(errors="replace").splitlines()

    return lines


def _carried_out(step: RunStep, folder: str, emit: Emit) -> None:
    """Run the container and pass its output on. Raises BuildFailed unless it succeeds."""
    identity = f"build-{os.path.basename(step.work.folder).rpartition('.')[2]}-{os.path.basename(folder)[4:]}"
    words = ["run", *(f"--lower={one}" for one in step.lowers), f"--overlay={folder}/layer", "--bundle", folder]
    child = launch.start([*words, identity])
    tail: deque[str] = deque(maxlen=_TAIL)
    assert child.stdout is not None
    try:
        with child.stdout as output:
            while data := output.readline(_LINE_BYTES):
                tail.append(data.decode(errors="replace").rstrip("\r\n"))
                emit(Line(step.stage, tail[-1]))
        code = child.wait()
    except BaseException:
        launch.removed(identity)
        child.wait()
        raise
    if code:
        how = f"signal {code - 128} ended it" if code > 128 else f"its exit status is {code}"
        raise BuildFailed(step.doing, because=how, tail=tuple(tail))


def _packed(request: tuple[RunStep, str, frozenset[bytes]], emit: Emit) -> Layer | None:  # noqa: ARG001
    """The layer of what the container has changed; its folder is removed. Raises CtkError."""
    step, folder, points = request
    try:
        upperfd = os.open(os.path.join(folder, "layer", "upper"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CtkError(step.doing, because=reason(error)) from None
    try:
        found = differ.changes(upperfd, step.lowers, form_here(), step.doing, latest_s=step.work.latest_s)
        layer = layers.put(step.work, upperfd, mount_points.without(found, points, step.lowers), step.doing)
    finally:
        os.close(upperfd)
    above = os.open(step.work.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rmtree_beneath.remove(above, os.path.basename(folder))
    finally:
        os.close(above)
    return layer
