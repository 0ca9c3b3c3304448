"""Where this host mounts its cgroups: read from /proc/self/mountinfo and /proc/self/cgroup, one read each.

Only /proc is taken for granted: WSL2 and nested containers mount cgroups elsewhere (cgroups(7), proc(5)).
"""

from toolkit.errors import HostLacks, Invalid
from toolkit.kernel import mountinfo
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # v1: 'cpu,cpuacct' or 'name=systemd'; v2: ''
    Hierarchy = tuple[str, str, str]  # controllers, mount point, the cgroup that is mounted there

MOUNT_ROOT = "/sys/fs/cgroup"
# The options of a v1 mount that are not controllers (cgroup_show_options, kernel/cgroup/cgroup-v1.c).
_NOT_CONTROLLERS = frozenset("rw ro noprefix xattr clone_children cpuset_v2_mode favordynmods all none".split())


def _lines_with(text: str, word: str) -> "Iterator[str]":
    """The lines that contain `word`, without splitting the others: mountinfo has thousands on a busy host."""
    at = text.find(word)
    while at >= 0:
        end = text.find("\n", at)
        yield text[text.rfind("\n", 0, at) + 1 : end]
        at = text.find(word, end)


def hierarchies(table: str = "") -> "list[Hierarchy]":
    """The hierarchies that this host uses, v2 first; of several mounts of one, the first. Pure if given the text.

    v1 hierarchies without a controller are left out, except for systemd's own (we must not join those of others).
    """
    text = table or mountinfo.read()
    unified: list[Hierarchy] = []
    found: dict[str, Hierarchy] = {}
    if " - cgroup2 " in text:
        for line in _lines_with(text, " - cgroup2 "):
            words = line.split(" ", 5)
            unified.append(("", mountinfo.unescaped(words[4]), mountinfo.unescaped(words[3])))
            break
    for line in _lines_with(text, " - cgroup "):
        words = line.split(" ", 5)
        options = line.rpartition(" ")[2].split(",")
        names = []
        for option in options:
            if option in _NOT_CONTROLLERS or option.startswith("release_agent="):
                continue
            if option.startswith("name=") and option != "name=systemd":
                continue
            names.append(option)
        key = ",".join(names)
        if key and key not in found:
            found[key] = (key, mountinfo.unescaped(words[4]), mountinfo.unescaped(words[3]))
    if len(found) > 1:
        # A hierarchy that is mounted twice, with its options in another order, would be joined twice.
        seen: set[str] = set()
        for key in list(found):
            if seen.issuperset(key.split(",")):
                del found[key]
            seen.update(key.split(","))
    return unified + list(found.values())


def own(text: str = "") -> "dict[str, str]":
    """The caller's cgroup by hierarchy, keyed as `hierarchies` are and by each controller. Pure if given the text."""
    result = {}
    for line in (text or mountinfo.read("/proc/self/cgroup")).rstrip("\n").split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        result[controllers] = path
        if "," in controllers:
            for controller in controllers.split(","):
                result[controller] = path
    return result


def visible(mountpoint: str, mounted: str, path: str) -> str:
    """The path below `mountpoint`, whose root is the cgroup `mounted`, of the cgroup `path` (from /proc/PID/cgroup).

    In a container without a cgroup namespace of its own, /proc/self/cgroup has host paths, of which the mount shows
    only a part. A path outside of it is taken for the mount's root.
    """
    if mounted == "/":
        inside = path
    elif path == mounted or path.startswith(mounted + "/"):
        inside = path[len(mounted) :]
    else:
        inside = ""
    if ".." in inside.split("/"):  # a cgroup namespace shows what is outside of it this way (cgroup_namespaces(7))
        inside = ""
    return (mountpoint + inside).rstrip("/")


def clean(path: str, field: str = "linux.cgroupsPath") -> str:
    """`path` without double slashes and dots. Raises Invalid for `..`: it could leave the cgroup that we were given."""
    words = [word for word in path.split("/") if word not in ("", ".")]
    if ".." in words or not path.isprintable():  # half a surrogate pair, which JSON can hold, is not printable either
        raise Invalid(field, f"{path!r} must not contain '..' or control characters")
    return ("/" if path.startswith("/") else "") + "/".join(words)


def nothing_mounted() -> HostLacks:
    """The error for a host on which no cgroups are mounted."""
    return HostLacks(
        "make cgroups",
        because="no cgroup file system is mounted",
        hint=f"mount -t cgroup2 cgroup2 {quote(MOUNT_ROOT)}",
    )


def is_v2(found: "list[Hierarchy]") -> bool:
    """Whether v2 has the controllers: it is mounted, and no v1 hierarchy has any (systemd's has none)."""
    return bool(found) and not found[0][0] and all(key in ("", "name=systemd") for key, _, _ in found)
