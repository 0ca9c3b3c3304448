"""Descriptions of mounts: in words, system calls and shell lines (see steps.py). Imported only to explain a plan."""

from toolkit.kernel import mounts
from toolkit.runtime import shell_words
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.mounting import Mount
    from toolkit.runtime.steps import Description

_ATTRIBUTES = {name: bit for name, bit in vars(mounts).items() if name.startswith("MOUNT_ATTR_") and "__" not in name}


_BUILT_IN = ("cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs")


def describe(step: "Mount") -> "Description":
    """The description of one entry of `mounts`."""
    return _bind(step) if step.is_bind else _new(step)


def _attributes(step: "Mount") -> str:
    from toolkit.kernel.libc import flag_names

    set_, clear = step.options.of_a_bind() if step.is_bind else step.options.attributes()
    words = [f"attr_set={flag_names(set_, _ATTRIBUTES)}"] if set_ else []
    if clear & ~mounts.MOUNT_ATTR__ATIME:
        words.append(f"attr_clr={flag_names(clear & ~mounts.MOUNT_ATTR__ATIME, _ATTRIBUTES)}")
    return "{" + ", ".join(words) + "}"


def _propagations(step: "Mount", default: "tuple[int, ...]" = ()) -> "tuple[list[str], list[str]]":
    flags = step.options.propagation or default
    target = shell_words.in_root(step.destination)
    return (
        [f'mount(NULL, "{step.destination}", NULL, {mounts.flag_names(each)}, NULL)' for each in flags],
        [f"mount {shell_words.propagation(each)} {target}" for each in flags],
    )


def _recursive(step: "Mount") -> "tuple[list[str], list[str]]":
    from toolkit.kernel.libc import flag_names

    if not step.options.recursive_set and not step.options.recursive_cleared:
        return [], []
    names = flag_names(step.options.recursive_set, _ATTRIBUTES)
    call = f'mount_setattr(root, "{step.destination}", AT_RECURSIVE, {{attr_set={names}}}, 32)'
    words = [name[11:].lower() for name, bit in _ATTRIBUTES.items() if bit and step.options.recursive_set & bit]
    words = ["ro" if name == "rdonly" else name for name in words]
    # mount(8) knows ro=recursive only since util-linux 2.39; any version can change the mount itself.
    line = f"mount -o remount,bind,{','.join(words)} {shell_words.in_root(step.destination)}"
    return [call], [line] if words else []


def _new(step: "Mount") -> "Description":
    kind = step.fstype or "none"
    source = quote(step.source)
    target = shell_words.in_root(step.destination)
    late = mounts.MS_RDONLY if step.read_only_at_the_end else 0
    data = ",".join(step.options.data)
    calls = [
        f'mount("{step.source}", "{step.destination}", "{kind}", '
        f"{mounts.flag_names(step.options.flags & ~late)}, {chr(34) + data + chr(34) if data else 'NULL'})"
    ]
    words, own = shell_words.options(step.options, leave_out=late), ""
    lines = []
    if kind == "tmpfs" and "mode=" not in data:
        # A folder that is mounted over keeps its mode; a new one gets tmpfs's default.
        lines.append(f"mode=$(stat -c %a {target} 2>/dev/null || echo 1777)")
        own = 'mode="$mode"'
    lines.append(f"mkdir -p {target}")
    if "tmpcopyup" in step.options.extensions:
        lines.append(f'saved=$(mktemp -d) && cp -a {target}/. "$saved/"')
    options = shell_words.dash_o(words, own)
    # For other types mount(8) looks for a program /sbin/mount.TYPE; mount.fuse would even run the source.
    internal = "" if kind in _BUILT_IN else "-i "
    mark = "-- " if step.source.startswith("-") else ""
    lines.append(f"mount -t {quote(kind)} {internal}{options}{mark}{source} {target}")
    if "tmpcopyup" in step.options.extensions:
        lines.append(f'cp -a "$saved/." {target}/ && rm -r "$saved"')
    for more_calls, more_lines in (_propagations(step), _recursive(step)):
        calls += more_calls
        lines += more_lines
    return (f"mount a new {kind} at {step.destination}", "; ".join(calls), "\n".join(lines))


def bind_lines(step: "Mount", source: str) -> "list[str]":
    """The shell lines of a bind mount from another place; `source` is shell text."""
    return _bind(step, source)[2].split("\n")


def _bind(step: "Mount", source: str = "") -> "Description":
    recursive = bool(step.options.flags & mounts.MS_REC)
    source = source or quote(step.source)
    target = shell_words.in_root(step.destination)
    above = shell_words.in_root(shell_words.parent(step.destination))
    flags = "OPEN_TREE_CLONE" + ("|AT_RECURSIVE" if recursive else "")
    calls = [f'tree = open_tree(AT_FDCWD, "{step.source}", {flags})']
    attributes = _attributes(step)
    if attributes != "{}":
        calls.append(f'mount_setattr(tree, "", AT_EMPTY_PATH, {attributes}, 32)')
    calls.append(f'move_mount(tree, "", root, "{step.destination}", …)')
    make = f"mkdir -p {above}; [ -d {source} ] && mkdir {target} || touch {target}"
    lines = [f"[ -e {target} ] || {{ {make}; }}", f"mount --{'r' if recursive else ''}bind {source} {target}"]
    words = shell_words.attributes(step.options)
    if words:
        lines.append(f"mount -o remount,bind,{words} {target}")
    for more_calls, more_lines in (
        _propagations(step, (mounts.MS_PRIVATE | mounts.MS_REC,)),
        _recursive(step),
    ):
        calls += more_calls
        lines += more_lines
    return (f"show the host's {step.source} at {step.destination}", "; ".join(calls), "\n".join(lines))
