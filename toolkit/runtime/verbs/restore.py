"""`restore`: restore a container with CRIU from the files that `checkpoint` wrote."""

import os
import stat as st

from toolkit.errors import CtkError, HostLacks, Invalid, SystemCall, reason
from toolkit.kernel import beneath, mounts, namespaces, ours, process, reading, roots
from toolkit.oci import json_text
from toolkit.runtime import (
    console,
    criu,
    criu_image,
    foreground,
    hooks,
    launch,
    notify,
    outside,
    plan,
    session,
    spawn,
)
from toolkit.runtime import record as records
from toolkit.runtime.verbs.checkpoint import DESCRIPTION, STREAMS, empty_namespaces, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.options import Options

_LOG = "restore.log"


def run(options: "Options") -> int:
    """Restore it; returns the program's exit code, 0 with --detach. Raises CtkError, HostLacks (no CRIU, a chroot)."""
    if roots.in_chroot():
        raise HostLacks(
            "restore a container",
            because="ctk runs in a chroot: a process that enters CRIU's container there would be in the host's root",
            hint="restore it outside of the chroot, or run ctk in a container",
        )
    program = criu.find(options.criu)
    criu.check(program)
    images = os.path.abspath(options.value("image-path") or "checkpoint")
    description = _read(images, DESCRIPTION)
    streams = _read(images, STREAMS)
    if not options.detach:
        outside.hold_signals()
        if not options.no_subreaper:
            foreground.become_subreaper()
    restoring = _Restoring(options, images)
    record = restoring.reserve()
    try:
        restoring.carry_out(program, description, streams)
    except BaseException:
        launch.undo(restoring.launch)
        raise
    record.unlock()
    if options.detach:
        return 0
    code = session.wait(record.pid, restoring.master)
    session.remove(restoring.launch)
    return code


def _read(images: str, name: str) -> "object":
    try:
        return json_text.loads(reading.read(os.path.join(images, name)), name)
    except OSError as error:
        because = f"{images}/{name}: {reason(error)}"
        raise CtkError("read the checkpoint", because=because, hint="name its folder with --image-path") from None


class _Restoring:
    """A restore in progress."""

    def __init__(self, options: "Options", images: str) -> None:
        self.options = options
        self.images = images
        self.launch = launch.Launch(options)
        self.master = -1  # of the container's terminal, if we relay it
        self.extra: list[int] = []  # fds that criu gets besides its socket
        self.places: dict[str, str] = {}  # destination of a bind mount -> where that is in the root
        mode = options.value("manage-cgroups-mode")
        if mode not in criu.CGROUP_MODES:
            raise CtkError(f"invalid manage-cgroups-mode {mode!r}", hint="soft, full, strict or ignore")
        self.cgroup_mode = criu.CGROUP_MODES[mode]

    def reserve(self) -> "records.Record":
        """Reserve the record and fill in everything that does not need the process."""
        under_way, options = self.launch, self.options
        spec, text, bundle = launch.read_bundle(options)
        launch.check_root(plan.root_path(spec, bundle), spec)
        under_way.spec, under_way.bundle = spec, bundle
        record = under_way.record = records.reserve(options.root, options.id)
        try:
            record.bundle, record.rootfs = bundle, plan.root_path(spec, bundle)
            record.terminal = bool(spec["process"].get("terminal"))
            record.annotations = spec.get("annotations") or {}
            record.oci_version = spec["ociVersion"]
            record.save_config(text)
            path = (spec.get("linux") or {}).get("cgroupsPath")
            under_way.cgroup = launch.cgroup_manager(options, path, record.annotations)
            record.cgroups = under_way.cgroup.facts()
            record.save()
        except BaseException:
            launch.undo(under_way)
            raise
        return record

    def carry_out(self, program: str, description: object, streams: object) -> None:
        """From the record to a running container. Raises CtkError."""
        record, cgroup, options = self.launch.record, self.launch.cgroup, self.options
        assert record is not None and cgroup is not None
        work = os.path.abspath(options.value("work-path") or self.images)
        ours.make_private(work)
        root = self._bind_root(record)
        try:
            self._call(program, root, work, description, streams)
        finally:
            # In any case, because the record's folder is deleted next, and this is the container's root in it.
            for fd in self.extra:
                os.close(fd)
            mounts.umount2(root, mounts.MNT_DETACH)
            os.rmdir(root)
        if not record.pid:
            raise CtkError("restore the container", because="criu did not report its process")
        resources = (self.launch.spec.get("linux") or {}).get("resources") or {}
        cgroup.apply(resources)
        cgroup.apply_devices(resources.get("devices") or ())
        record.cgroups = cgroup.facts()
        record.save()

    def _call(self, program: str, root: str, work: str, description: object, streams: object) -> None:
        """Let criu make the processes. Raises CtkError with the errors of its log."""
        cgroup = self.launch.cgroup
        assert cgroup is not None
        request = self._request(description, streams)
        request["root"] = root
        # Opened in the new mount namespace, because criu mounts on paths below it.
        request["images_dir_fd"] = os.open(self.images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        request["work_dir_fd"] = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        spawn.create_cgroup(cgroup)
        session = criu.Session(program, self.extra)
        try:
            # criu's children start in its cgroups, so it joins the container's own first.
            cgroup.join(session.pid)
            request["cg_root"] = _cgroup_roots(session.pid)
            session.call(criu.RESTORE, criu.request_options(request), self._notified)
        except CtkError as error:
            reason_logged = criu.report_log(work, _LOG)
            raise CtkError(
                error.doing, because=reason_logged or error.because, hint=f"CRIU's whole log: {work}/{_LOG}"
            ) from None
        finally:
            session.close()

    def _request(self, description: object, streams: object) -> "dict[str, Any]":
        options = self.options
        request: dict[str, Any] = {
            "evasive_devices": True,
            "log_level": 4,
            "log_file": _LOG,
            "rst_sibling": True,  # the container's first process becomes our child, not criu's
            "manage_cgroups": True,
            "manage_cgroups_mode": self.cgroup_mode,
            "notify_scripts": True,
            "orphan_pts_master": True,
            "empty_ns": empty_namespaces(options.value("empty-ns")),
            "lsm_profile": options.value("lsm-profile"),
            "lsm_mount_context": options.value("lsm-mount-context"),
            "ext_mnt": self._outside_mounts(description),
            "config_file": criu.config_file(options.program, self.launch.spec.get("annotations") or {}),
        }
        for option in ("shell-job", "tcp-established", "ext-unix-sk", "file-locks", "auto-dedup", "lazy-pages"):
            request[option.replace("-", "_")] = options.value(option)
        if not isinstance(streams, list) or len(streams) > 3:
            raise Invalid("", "is not a list of three streams", document=STREAMS)
        inherited: dict[str, int] = {}
        for number, stream in enumerate(streams):
            if isinstance(stream, str) and stream.startswith(("pipe:[", "socket:[")):
                inherited.setdefault(stream, number)
        for key, number in _files(description):
            if number == criu_image.NULL:
                number = criu.FIRST_EXTRA + len(self.extra)
                self.extra.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            inherited[key] = number
        request["inherit_fd"] = [[(1, key), (2, number)] for key, number in inherited.items()]
        self._join_namespaces(request)
        return request

    def _outside_mounts(self, description: object) -> "list[list[tuple[int, str]]]":
        """(name, source) of each external mount. Raises Invalid for one that the spec does not have."""
        spec, cgroup = self.launch.spec, self.launch.cgroup
        assert cgroup is not None
        cgroup_mounts = {}
        for mount in spec.get("mounts") or ():
            if mount.get("type") == "cgroup":
                for name, _, path in cgroup.mounts():
                    # For v2 there is one mount, without a name.
                    cgroup_mounts[criu_image.point_of(mount) + ("/" + name if name else "")] = path
        known = criu_image.sources(spec, self.launch.bundle, cgroup_mounts, self.places)
        points = description.get("external_mounts") if isinstance(description, dict) else None
        if not isinstance(points, list) or not all(isinstance(point, str) for point in points):
            raise Invalid("external_mounts", "is not a list of mount points", document=DESCRIPTION)
        if notify.POINT in points and notify.POINT not in known:
            # It was started by a service manager, which was notified long ago: the folder exists, and is empty.
            assert self.launch.record is not None
            known[notify.POINT] = notify.folder(self.launch.record)
            os.mkdir(known[notify.POINT])
        pairs = []
        for point in points:
            if point not in known:
                raise CtkError(
                    f"restore the mount {point!r}",
                    because="it came from outside the container, and the bundle's config.json has none there",
                    hint="restore with the config.json of the checkpointed container",
                )
            pairs.append([(1, point), (2, known[point])])
        return pairs

    def _join_namespaces(self, request: "dict[str, Any]") -> None:
        """Have criu join namespaces by path; network and pid namespaces are passed to it as open files."""
        joins = []
        for entry in (self.launch.spec.get("linux") or {}).get("namespaces") or ():
            path, kind = entry.get("path"), entry["type"]
            if not path:
                continue
            if kind in ("network", "pid"):
                number = criu.FIRST_EXTRA + len(self.extra)
                self.extra.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                request["inherit_fd"].append([(1, key_of(kind)), (2, number)])
            elif kind == "cgroup":
                raise CtkError("join a cgroup namespace", because="criu cannot do that at a restore")
            elif kind == "user":
                raise CtkError(
                    f"join the user namespace {path!r} at a restore",
                    because="its root could trace criu, which still has the host's root and files then",
                    hint="restore into a user namespace of its own",
                )
            else:
                joins.append([(1, namespaces.NAMESPACES[kind][1]), (2, path)])
        request["join_ns"] = joins

    def _bind_root(self, record: "records.Record") -> str:
        """Make the root a mount, as criu requires, in a mount namespace of ours, which ends with us."""
        root = record.folder + "/criu-root"
        os.mkdir(root, 0o700)
        namespaces.unshare(namespaces.NAMESPACES["mount"][0])
        # A slave, so that none of our mounts propagates to the host. Also shared: a bind mount of the container was a
        # slave of the host's mount, and CRIU 4 makes it a slave of the mount that it finds here
        # (MOVE_MOUNT_SET_GROUP in move_mount(2)), which fails with EINVAL for a private one.
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_SLAVE)
        mounts.mount(record.rootfs, root, None, mounts.MS_BIND | mounts.MS_REC)
        try:
            self._make_mount_points(root)
        finally:
            mounts.umount2(root, mounts.MNT_DETACH)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_SHARED)
        mounts.mount(record.rootfs, root, None, mounts.MS_BIND | mounts.MS_REC)
        return root

    def _make_mount_points(self, root: str) -> None:
        """Make the spec's missing mount points, in the order of the spec, and note where they are.

        Bind mounts are made meanwhile, because one may contain the mount point of the next; criu makes its own. Mount
        points inside a new file system are restored with it: the files of a tmpfs are among the images.
        """
        bundle = self.launch.bundle
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made_again: list[str] = []
            for index, mount in enumerate(self.launch.spec.get("mounts") or ()):
                point = criu_image.point_of(mount)
                if mount.get("type") == "cgroup" or any(point.startswith(above + "/") for above in made_again):
                    continue
                if not criu_image.is_bind(mount):
                    made_again.append(point)
                    os.close(beneath.make_directories(fd, point))
                    continue
                source = os.path.join(bundle, mount.get("source") or "")
                try:
                    folder = st.S_ISDIR(os.stat(source).st_mode)
                    place = (beneath.make_directories if folder else beneath.make_file)(fd, point)
                    self.places[mount["destination"]] = os.readlink(beneath.fd_path(place))[len(root) :] or "/"
                    mounts.mount(source, beneath.fd_path(place), None, mounts.MS_BIND | mounts.MS_REC)
                    os.close(place)
                except (OSError, SystemCall) as error:
                    because = error.because if isinstance(error, SystemCall) else reason(error)
                    raise CtkError(
                        f"restore the mount {source!r} at {mount['destination']!r} (mounts[{index}])", because=because
                    ) from None
        finally:
            os.close(fd)

    def _notified(self, name: str, pid: int, fd: int) -> None:
        record, options = self.launch.record, self.options
        assert record is not None
        if name == "orphan-pts-master" and fd >= 0:
            if options.console_socket:
                end = console.connect(options.console_socket)
                console.send_descriptor(end, fd, b"/dev/ptmx")
                end.close()
            else:
                self.master = os.dup(fd)
        elif name == "setup-namespaces":
            given = self.launch.spec.get("hooks") or {}
            state = hooks.state_for(record, "creating", pid)
            hooks.run("prestart", given.get("prestart") or (), state)
            hooks.run("createRuntime", given.get("createRuntime") or (), state)
        elif name == "post-restore":
            self.launch.pid = record.pid = pid
            record.start_time = process.start_time(pid)
            root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            record.root_place = list(mounts.place_of(root_fd))
            os.close(root_fd)
            record.save()
            if options.pid_file:
                outside.write_pid_file(options.pid_file, pid)


def _files(description: object) -> "list[tuple[str, int]]":
    """(criu's name, number of the stream, or NULL) for each standard stream that was a file of the host.

    Never by path, because the author of the images could name any file of the host.
    """
    files = description.get("files") or {} if isinstance(description, dict) else None
    if not isinstance(files, dict) or not all(number in (criu_image.NULL, 0, 1, 2) for number in files.values()):
        raise Invalid("files", "is not an object of streams", document=DESCRIPTION)
    return list(files.items())


def _cgroup_roots(pid: int) -> "list[list[tuple[int, str]]]":
    """Where criu must make the container's cgroups, for each controller: where criu itself is."""
    roots = []
    for line in reading.read(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").rstrip("\n").split("\n"):
        _, controllers, path = line.split(":", 2)
        roots += [[(1, controller), (2, path)] for controller in controllers.split(",")]
    return roots
