"""User namespaces: write the id mappings, and open what the mapped root may not reach (user_namespaces(7))."""

import os

from toolkit.errors import CtkError, HostLacks, LaunchFailed, reason
from toolkit.kernel import mounts, namespaces, process
from toolkit.runtime import mounting_program, opener_program
from toolkit.runtime.devices import MakeDevices
from toolkit.runtime.mounting import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.kernel.program.program import Cell, Program
    from toolkit.oci.types import IDMapping, Linux, Spec
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.site import Site


_HELPERS = ("/usr/bin/", "/usr/local/bin/", "/bin/")


def write(pid: int, uids: "Sequence[IDMapping]", gids: "Sequence[IDMapping]") -> None:
    """Write a process's uid_map and gid_map. Raises LaunchFailed, HostLacks.

    Without privilege a process may map only its own id (and must deny setgroups(2) first, CVE-2014-8989). For more ids
    there are newuidmap(1) and newgidmap(1), which follow /etc/subuid and /etc/subgid.
    """
    privileged = os.geteuid() == 0
    if not privileged and not _own_only(uids, os.geteuid()):
        _by_helper("newuidmap", pid, uids, "/etc/subuid")
    else:
        _put(pid, "uid_map", _text(uids))
    if privileged:
        _put(pid, "gid_map", _text(gids))
    elif _own_only(gids, os.getegid()):
        _put(pid, "setgroups", b"deny")
        _put(pid, "gid_map", _text(gids))
    else:
        _by_helper("newgidmap", pid, gids, "/etc/subgid")


def complete(linux: "Linux") -> None:
    """Fill in missing mappings of a new user namespace: root is the caller, the rest are its subordinate ids."""
    if linux.get("uidMappings") and linux.get("gidMappings"):
        return
    from toolkit.kernel import subids

    uids, gids = subids.of_caller()
    if not linux.get("uidMappings"):
        linux["uidMappings"] = _mappings(uids)
    if not linux.get("gidMappings"):
        linux["gidMappings"] = _mappings(gids)


def _mappings(lines: "Sequence[tuple[int, int, int]]") -> "list[IDMapping]":
    return [{"containerID": inside, "hostID": host, "size": size} for inside, host, size in lines]


def _own_only(entries: "Sequence[IDMapping]", own: int) -> bool:
    return len(entries) == 1 and entries[0]["size"] == 1 and entries[0]["hostID"] == own


def _text(entries: "Sequence[IDMapping]") -> bytes:
    return "".join(f"{e['containerID']} {e['hostID']} {e['size']}\n" for e in entries).encode()


def _put(pid: int, name: str, data: bytes) -> None:
    if not data:
        return
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise LaunchFailed(
            f"write {name} of the new user namespace ({data.decode().strip()!r})",
            because=reason(error),
            hint="see linux.uidMappings and linux.gidMappings: ranges must not overlap, and the host must allow them",
        ) from None


def _by_helper(name: str, pid: int, entries: "Sequence[IDMapping]", table: str) -> None:
    program = next((folder + name for folder in _HELPERS if os.access(folder + name, os.X_OK)), "")
    if not program:
        raise HostLacks(
            "map more than one id without root",
            because=f"{name}(1) is not installed",
            hint="install it (Debian: apt install uidmap), or map your own id only",
        )
    arguments = [name, str(pid)]
    for entry in entries:
        arguments += [str(entry["containerID"]), str(entry["hostID"]), str(entry["size"])]
    output = os.memfd_create(name)
    child = os.posix_spawn(
        program, arguments, {"PATH": "/usr/bin:/bin"}, file_actions=[(os.POSIX_SPAWN_DUP2, output, 2)], setsigmask=()
    )
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.lseek(output, 0, os.SEEK_SET)
    message = os.read(output, 4096).decode("utf-8", "replace").strip()
    os.close(output)
    if code:
        raise LaunchFailed(
            f"run {' '.join(arguments)}",
            because=message or f"exit status {code}",
            hint=f"{table} must grant these ids to user {os.geteuid()}",
        )


def holder(uids: "Sequence[IDMapping]", gids: "Sequence[IDMapping]") -> int:
    """An fd of a user namespace with these mappings, for an idmapped mount (mount_setattr(2)). Raises CtkError."""
    reading, writing = os.pipe()
    pid, _ = process.clone3(namespaces.CLONE_NEWUSER)
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        write(pid, uids, gids)
        return namespaces.open_namespace(pid, "user")
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(pid, 0)


def make_nodes(plan: "LaunchPlan", site: "Site", linux: "Linux") -> None:
    """Make device nodes before the clone, because the container's root may not. Raises CtkError."""
    for step in plan.steps:
        if isinstance(step, MakeDevices) and "user" in plan.new:
            step.make_nodes(site, linux)


def idmap_sources(plan: "LaunchPlan", site: "Site", spec: "Spec") -> None:
    """Set the id mapping of the mounts that ask for one (options idmap, ridmap; uidMappings, gidMappings).

    Raises LaunchFailed.
    """
    linux = spec.get("linux") or {}
    listed = spec.get("mounts") or ()
    for step in plan.steps:
        if not isinstance(step, Mount):
            continue
        entry = listed[step.index]
        asked = [word for word in step.options.extensions if word.partition("=")[0] in ("idmap", "ridmap")]
        if not asked and not entry.get("uidMappings") and not entry.get("gidMappings"):
            continue
        uids: "Sequence[IDMapping]" = entry.get("uidMappings") or ()
        gids: "Sequence[IDMapping]" = entry.get("gidMappings") or ()
        if asked and "=" in asked[-1]:
            uids, gids = _inline(asked[-1], step.field)
        uids = uids or linux.get("uidMappings") or ()
        gids = gids or linux.get("gidMappings") or ()
        recursive = mounts.AT_RECURSIVE if asked and asked[-1].startswith("ridmap") else 0
        try:
            if uids or gids:
                user_namespace = holder(uids, gids)
            else:
                path = next((path for kind, path in plan.joins if kind == "user"), "")
                user_namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else holder((), ())
            if site.userns or opener_program.is_inside(step.source, plan.root):
                step.mapping = (user_namespace, recursive)
                continue
            tree = site.sources[step.index] = step.open_source()
            try:
                mounts.mount_setattr(
                    tree, "", mounts.AT_EMPTY_PATH | recursive, mounts.MOUNT_ATTR_IDMAP, 0, 0, user_namespace
                )
            finally:
                os.close(user_namespace)
        except CtkError as error:
            raise LaunchFailed(
                f"map the ids of mount {step.destination!r} ({step.field})",
                because=str(error),
                hint="its file system must support idmapped mounts (ext4, xfs, btrfs, tmpfs: see mount_setattr(2))",
            ) from None


def prepare(
    p: "Program", plan: "LaunchPlan", site: "Site", spec: "Spec", kept: "list[int]"
) -> "Callable[[Cell | None], None] | None":
    """Prepare what a program needs of us for a user namespace or mapped ids; `kept` gets its descriptors.

    Returns what emits the service of opener_program.py, for a process that keeps the host's rights; it takes the pid of
    the container's first process, None if that is told by the socket.
    """
    if site.userns:
        make_nodes(plan, site, spec.get("linux") or {})
    idmap_sources(plan, site, spec)
    steps = [step for step in plan.steps if isinstance(step, Mount)]
    if "user" in plan.new:
        linux = spec["linux"]
        for step in steps:
            step.ids = {"uid": linux["uidMappings"], "gid": linux["gidMappings"]}
    kept += [fd for fd in (site.nodes, *site.sources.values()) if fd >= 0]
    kept += [step.mapping[0] for step in steps if step.mapping is not None]
    # Without root we can reach no more than the container's root.
    asked = [step for step in steps if opener_program.opens(step, plan.root) and step.index not in site.sources]
    if not site.userns or not asked or os.geteuid():
        return None
    import _socket

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    site.opener, end = ours.detach(), theirs.detach()
    site.ends += [site.opener, end]
    kept += [site.opener, end]
    owned = [(step, mounting_program.owner(step)) for step in asked]
    return lambda pid: opener_program.serve(p, end, site.opener, pid, owned, plan.root)


def _inline(option: str, field: str) -> "tuple[list[IDMapping], list[IDMapping]]":
    """`idmap=uids=0-1000-10#…;gids=…` (container-host-size triples, as crun writes them)."""
    result: "dict[str, list[IDMapping]]" = {"uids": [], "gids": []}
    for part in option.partition("=")[2].split(";"):
        kind, _, triples = part.partition("=")
        for triple in triples.split("#"):
            numbers = triple.lstrip("@").split("-")
            if kind not in result or len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
                raise LaunchFailed(f"read option {option!r} ({field})", because="not uids=A-B-SIZE;gids=A-B-SIZE")
            a, b, size = map(int, numbers)
            result[kind].append({"containerID": a, "hostID": b, "size": size})
    return result["uids"], result["gids"]
