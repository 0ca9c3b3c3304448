"""From a request for a spec to its edits, and to the file that they make."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from toolkit.bundle import document, fields, mounts, namespaces, process, resources, rights, root, rootless
from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Usage, reason
from toolkit.events import Done, Emit, Note, silent
from toolkit.kernel import reading, subids
from toolkit.oci.defaults import default_spec


class SpecRequest(NamedTuple):
    """The options of `ctk spec`, as typed. None and () mean "leave it as it is"."""

    bundle: str = "."
    rootless: bool = False
    force: bool = False
    update: bool = False  # start from the existing config.json
    rootfs: str = ""
    writable: bool | None = None
    share_net: bool = False
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    hostname: str = ""
    terminal: bool | None = None
    no_new_privileges: bool | None = None
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    hook: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    ulimit: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    memory: str = ""
    memory_swap: str = ""
    memory_reservation: str = ""
    cpus: str = ""
    cpu_shares: str = ""
    cpuset: str = ""
    pids_limit: str = ""
    cpuset_mems: str = ""
    blkio_weight: str = ""
    device_limits: tuple[tuple[str, str], ...] = ()  # ("read-bps", "/dev/sda:10M")
    seccomp: str = ""  # default, unconfined, or a file
    init: bool | None = None
    from_image: str = ""  # DIR or DIR:TAG of an OCI image layout
    sysctl: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    userns: bool = False  # map our own id and our subordinate ids
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()


def edits(
    request: SpecRequest, host: mounts.HostFiles, emit: Emit = silent, image: Iterable[Edit] = ()
) -> Iterator[Edit]:
    """The edits for `request`, in the order in which they are made. `emit` gets a note about what is left out.

    `image`: those for the configuration of an image whose layers are the root. Raises Usage.
    """
    if request.rootfs:
        yield root.rootfs(request.rootfs, request.bundle)
        if not request.update:  # the default spec, which is runc's, is not made for this tree
            yield process.args((root.shell(request.rootfs),))
            yield named_by_the_run
    if request.writable is not None:
        yield root.read_only(not request.writable)
    if request.from_image:
        from toolkit.bundle import image as images  # half of what `ctk spec` would import

        yield from images.edits(
            images.read(request.from_image), images.in_folder(_root_of(request)), request.args, emit
        )
    yield from image
    if request.writable:
        yield process.add_capabilities(process.PACKAGE_CAPABILITIES)
    if request.privileged:
        yield rights.privileged
    yield from _process(request)
    yield from (rights.security_option(text) for text in request.security_opt)
    yield from (rights.device(text) for text in request.device)
    yield from (rights.hook(text) for text in request.hook)
    yield from _mounts_and_namespaces(request, host)
    yield from _resources(request)
    for field, entries in (("sysctl", request.sysctl), ("annotations", request.annotation)):
        if entries:
            yield _pairs(field, entries)
    if request.init is not None:
        yield _init(request.init)
    if request.seccomp:  # last, because it depends on the capabilities set by the edits above
        yield rights.seccomp_profile(request.seccomp)
    yield from (fields.set_field(text) for text in request.set)
    yield from (fields.unset_field(text) for text in request.unset)


def _process(request: SpecRequest) -> Iterator[Edit]:
    if request.args and not request.from_image:  # with an image, its Entrypoint comes before them
        yield process.args(request.args)
    if entries := [*_env_files(request.env_file), *(_from_here(entry) for entry in request.env)]:
        yield process.environment(entries)
    if request.cwd:
        yield process.cwd(request.cwd)
    if request.user:
        yield process.user(request.user)
    if request.terminal is not None:
        yield process.terminal(request.terminal)
    if request.no_new_privileges is not None:
        yield process.no_new_privileges(request.no_new_privileges)
    if request.cap_drop:
        yield process.drop_capabilities(process.capability_names(request.cap_drop, option="--cap-drop"))
    if request.cap_add:
        yield process.add_capabilities(process.capability_names(request.cap_add, option="--cap-add"))
    yield from (process.rlimit(text) for text in request.ulimit)
    if request.hostname:
        yield _host_name(request.hostname)


def _mounts_and_namespaces(request: SpecRequest, host: mounts.HostFiles) -> Iterator[Edit]:
    if request.share_net:
        yield mounts.share_net(host)
    yield from (namespaces.parse_namespace(text) for text in request.namespace)
    if request.uid_map:
        yield namespaces.mappings("uidMappings", request.uid_map)
    if request.gid_map:
        yield namespaces.mappings("gidMappings", request.gid_map)
    yield from (mounts.parse_mount(text) for text in request.mount)
    yield from (mounts.parse_volume(text) for text in request.volume)
    yield from (mounts.parse_tmpfs(text) for text in request.tmpfs)


def _resources(request: SpecRequest) -> Iterator[Edit]:
    for text, edit in (
        (request.memory, resources.memory),
        (request.memory_swap, resources.memory_swap),
        (request.memory_reservation, resources.memory_reservation),
        (request.cpus, resources.cpus),
        (request.cpu_shares, resources.cpu_shares),
        (request.cpuset, resources.cpuset),
        (request.pids_limit, resources.pids_limit),
        (request.cpuset_mems, resources.cpuset_mems),
        (request.blkio_weight, resources.blkio_weight),
    ):
        if text:
            yield edit(text)
    yield from (resources.device_limit(kind, text) for kind, text in request.device_limits)


def _host_name(name: str) -> Edit:
    def edit(spec: Spec) -> Spec:
        annotations = spec.get("annotations") or {}
        if annotations.pop("ctk.hostname", None) and not annotations:
            del spec["annotations"]
        return spec | {"hostname": name}

    return edit


def named_by_the_run(spec: Spec) -> Spec:
    """A host name to be replaced by the container's id at run time. Other runtimes show the placeholder."""
    spec["hostname"] = "container"
    spec.setdefault("annotations", {})["ctk.hostname"] = "container"
    return spec


def _init(wanted: bool) -> Edit:
    """--init: the annotation that makes ctk stay as the first process (toolkit/runtime/launch.py)."""

    def edit(spec: Spec) -> Spec:
        annotations = spec.setdefault("annotations", {})
        annotations["ctk.init"] = "true"
        if not wanted:
            del annotations["ctk.init"]
        if not annotations:
            del spec["annotations"]
        return spec

    return edit


def _root_of(request: SpecRequest) -> str:
    """The path on the host of the root file system that the spec will name."""
    if request.rootfs:
        return request.rootfs
    path = "rootfs"
    if request.update:
        path = str((document.read(request.bundle).get("root") or {}).get("path", path))
    return os.path.join(request.bundle, path)


def _texts(lines: list[tuple[int, int, int]]) -> tuple[str, ...]:
    return tuple(":".join(map(str, line)) for line in lines)


def _pairs(field: str, entries: tuple[str, ...]) -> Edit:
    pairs = dict(entry.partition("=")[::2] for entry in entries)
    if any("=" not in entry for entry in entries):
        raise Usage(f"read --{field.rstrip('s')} {entries!r}", because="not NAME=VALUE")

    def edit(spec: Spec) -> Spec:
        home = spec.setdefault("linux", {}) if field == "sysctl" else spec
        home.setdefault(field, {}).update(pairs)
        return spec

    return edit


def _from_here(entry: str) -> str:
    """--env NAME takes the value from our own environment, as in `docker run` and `podman run`."""
    return entry if "=" in entry else f"{entry}={os.environ.get(entry, '')}"


def _env_files(paths: tuple[str, ...]) -> Iterator[str]:
    for path in paths:
        try:
            lines = [line.strip() for line in reading.text(path).split("\n")]
        except OSError as error:
            raise Usage(f"read --env-file {path!r}", because=reason(error)) from None
        yield from (line for line in lines if line and not line.startswith("#"))


def make(request: SpecRequest, emit: Emit = silent, *, image: Iterable[Edit] = ()) -> tuple[Spec, Spec]:
    """The spec before the edits (the default, or with `update` that of the bundle) and the spec after them.

    An ordinary user gets a rootless spec by default, and `emit` a note about it. Reads the host's resolv.conf and the
    named root file system; writes nothing. Raises NotFound for a missing root file system or command, Usage for an
    invalid value.
    """
    by_itself = rootless.by_itself(request)
    if by_itself:
        request = rootless.completed(request)
    before = document.read(request.bundle) if request.update else default_spec(request.rootless)
    if request.rootfs:
        root.check(request.rootfs)
    if request.userns:
        uids, gids = subids.of_caller()
        request = request._replace(uid_map=_texts(uids), gid_map=_texts(gids))
    after = document.edited(before, edits(request, mounts.HostFiles.read(), emit, image))
    if by_itself:
        after, left_out = rootless.without_undelegated(after)
        for note in rootless.notes(request, left_out):
            emit(note)
    where = request.rootfs or os.path.join(request.bundle, str((after.get("root") or {}).get("path", "")))
    if request.rootfs or (request.args and os.path.isdir(where)):
        root.check_command(where, after)
    return before, after


def write(request: SpecRequest, emit: Emit = silent) -> tuple[str, str]:
    """The text of config.json before and after. An existing text is changed only where its value changes."""
    before, after = make(request, emit)
    if not request.update:
        return document.text(before), document.text(after)
    there = document.read_text(request.bundle)
    return there, document.updated(there, after)


def build(request: SpecRequest, emit: Emit) -> None:
    """Make the spec and write it to the bundle. Done has its path. Raises InUse, NotFound, Usage."""
    _, content = write(request, emit)
    path = document.write(request.bundle, content, force=request.force or request.update)
    if request.writable and not request.update:
        emit(Note("the root is writable; added the capabilities that installing packages needs"))
    emit(Done(f"wrote {path}", 0.0, {"bundle": request.bundle, "config": path}))


def diff(request: SpecRequest) -> str:
    """What `request` would change, as a unified diff; '' if nothing."""
    before, after = write(request)
    import difflib

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    return "\n".join(lines)
