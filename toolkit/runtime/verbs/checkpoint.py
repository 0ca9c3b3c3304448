"""`checkpoint`: save a container to files with CRIU, and stop it unless told otherwise."""

import os

from toolkit.errors import CtkError, Invalid, reason
from toolkit.kernel import atomic, mountinfo, namespaces, ours
from toolkit.oci.json_text import dumps
from toolkit.runtime import criu, criu_image, lifecycle, log, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record

DESCRIPTION = "ctk.json"  # read by `restore` besides CRIU's images
STREAMS = "descriptors.json"  # runc's name and format for the standard streams
_LOG = "dump.log"


def run(options: "Options") -> int:
    """Save the container. Raises NotFound, CtkError, HostLacks if CRIU does not work here."""
    container = records.load(options.root, options.id)
    lifecycle.require(container, "checkpoint")
    status_fd = _status_fd(options)
    program = criu.find(options.criu)
    criu.check(program)
    images = os.path.abspath(options.value("image-path") or "checkpoint")
    work = os.path.abspath(options.value("work-path") or images)
    for folder in (images, work):
        ours.make_private(folder)
    parent = options.value("parent-path")
    if parent and (parent[0] == "/" or not os.path.isdir(os.path.join(images, parent))):
        raise CtkError(f"invalid --parent-path {parent!r}", because="not a folder relative to the image path")
    removal.lock(container)
    lifecycle.require(container, "checkpoint")
    pre_dump = options.value("pre-dump")
    request = _request(container, options, parent)
    if not pre_dump:
        request["ext_mnt"], files = _describe(container, images)
        request["external"] += files
    images_fd = request["images_dir_fd"] = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    request["work_dir_fd"] = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = _images(images_fd)
    session = criu.Session(program)
    try:
        removal.note_checkpoint(container, session.pid)
        session.call(
            criu.PRE_DUMP if pre_dump else criu.DUMP,
            criu.request_options(request),
            lambda name, _pid, _fd: _ready(status_fd) if name == "status-ready" else None,
        )
        _require_images(before, _images(images_fd), images, pre_dump=pre_dump)
    except CtkError as error:
        reason_logged = criu.report_log(work, _LOG)
        raise CtkError(
            error.doing, because=reason_logged or error.because, hint=f"CRIU's whole log: {work}/{_LOG}"
        ) from None
    finally:
        session.close()
        removal.forget_checkpoint(container)
    if not (pre_dump or options.value("leave-running")):
        removal.kill(container)
        removal.destroy(container)
    return 0


def _status_fd(options: "Options") -> int:
    """The descriptor of --status-fd, -1 if there is nothing to report. Raises CtkError if it can't be written to.

    As with runc, criu waits for a client only with --lazy-pages.
    """
    fd: int = options.value("status-fd")
    if fd < 0 or not options.value("lazy-pages"):
        return -1
    import fcntl

    try:
        mode = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError as error:
        raise CtkError(f"invalid --status-fd argument {fd}", because=reason(error)) from None
    if not mode & os.O_ACCMODE:
        raise CtkError(f"invalid --status-fd argument {fd}", because="not writable")
    return fd


def _ready(status_fd: int) -> None:
    """criu waits for a client to fetch the pages: notify the process at the other end of --status-fd."""
    if status_fd >= 0:
        try:
            os.write(status_fd, b"\0")
        except OSError as error:
            log.warning(f"write to --status-fd {status_fd}: {reason(error)}")
        os.close(status_fd)


def _images(folder_fd: int) -> "dict[str, tuple[int, int]]":
    """The image files in a folder, by name: inode and time of the last change (ns)."""
    found = {}
    with os.scandir(folder_fd) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.name.endswith(".img") and status.st_size:
                found[entry.name] = (status.st_ino, status.st_mtime_ns)
    return found


def _require_images(
    before: "dict[str, tuple[int, int]]", after: "dict[str, tuple[int, int]]", folder: str, *, pre_dump: bool
) -> None:
    """Raise CtkError unless criu has just written the files that a restore needs: the container is killed next."""
    written = [name for name, when in after.items() if before.get(name) != when]
    # A dump of memory alone has an inventory since CRIU 3.14, before that only the memory.
    for wanted in ("",) if pre_dump else ("inventory", "pstree", "core-"):
        if not any(name.startswith(wanted) for name in written):
            because = f"criu reported success, but has written no {wanted}*.img to {folder!r}"
            raise CtkError("save the container", because=because)


def _request(container: "Record", options: "Options", parent: str) -> "dict[str, Any]":
    """The options of the dump that do not depend on the mounts."""
    mode = options.value("manage-cgroups-mode")
    if mode not in criu.CGROUP_MODES:
        raise CtkError(f"invalid manage-cgroups-mode {mode!r}", hint="soft, full, strict or ignore")
    request: dict[str, Any] = {
        "log_level": 4,
        "log_file": _LOG,
        "root": container.rootfs,
        "pid": container.pid,
        "manage_cgroups": True,
        "manage_cgroups_mode": criu.CGROUP_MODES[mode],
        "notify_scripts": True,
        "orphan_pts_master": True,
        # Without it CRIU stops each process by ptrace(2), which would wait forever for a paused one.
        "freeze_cgroup": _freezer(container),
        "empty_ns": empty_namespaces(options.value("empty-ns")),
        "external": _external_namespaces(container),
        "config_file": criu.config_file(options.program, container.annotations),
    }
    for option in (
        "shell-job", "leave-running", "tcp-established", "tcp-skip-in-flight", "link-remap", "ext-unix-sk",
        "file-locks", "auto-dedup", "lazy-pages",
    ):  # fmt: skip
        request[option.replace("-", "_")] = options.value(option)
    if parent:
        request["parent_img"], request["track_mem"] = parent, True
    if options.value("pre-dump"):
        request["track_mem"] = True
    server = options.value("page-server")
    if server:
        host, _, port = server.rpartition(":")
        if not (host and port.isascii() and port.isdigit()):
            raise CtkError(f"invalid --page-server {server!r}", hint="ADDRESS:PORT")
        request["ps"] = [[(1, host), (2, int(port))]]
    return request


def _freezer(container: "Record") -> str:
    from toolkit.runtime import cgroups

    return str(cgroups.from_facts(container.cgroups).freezer_folder()) if container.cgroups else ""


def empty_namespaces(names: "list[str]") -> int:
    """The clone flags of the namespaces to leave empty. Raises CtkError."""
    flags = 0
    for name in names:
        if name != "network":
            raise CtkError(f"namespace {name!r} is not supported by --empty-ns", hint="network")
        flags |= namespaces.NAMESPACES[name][0]
    return flags


def key_of(kind: str) -> str:
    """The name that identifies a namespace which CRIU leaves alone; the same as runc's."""
    return {"network": "extRootNetNS", "pid": "extRootPidNS"}[kind]


def _external_namespaces(container: "Record") -> "list[str]":
    """Network and pid namespaces that the spec joins by path belong to others, and CRIU must leave them alone."""
    found = []
    for entry in (container.config().get("linux") or {}).get("namespaces") or ():
        if entry.get("path") and entry["type"] in ("network", "pid"):
            word = namespaces.NAMESPACES[entry["type"]][1]
            found.append(f"{word}[{os.stat(entry['path']).st_ino}]:{key_of(entry['type'])}")
    return found


def _describe(container: "Record", images: str) -> "tuple[list[list[tuple[int, str]]], list[str]]":
    """Write the container's description to the images; returns the external mounts and files for the request."""
    try:
        text = mountinfo.read(f"/proc/{container.pid}/mountinfo")
        streams, files = criu_image.streams(container.pid, text)
        bound = criu_image.bound_points(container.pid, text, container.config())
    except OSError as error:
        raise Invalid("", f"the container ended: {error.strerror}", document="checkpoint") from None
    outside = criu_image.external_mounts(criu_image.read_mounts(text), bound)
    description = {"format": 1, "external_mounts": outside, "files": files, "id": container.id}
    for name, value in ((DESCRIPTION, description), (STREAMS, streams)):
        atomic.replace(os.path.join(images, name), dumps(value).encode())
    return [[(1, point), (2, point)] for point in outside], list(files)
