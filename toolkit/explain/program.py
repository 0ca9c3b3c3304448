"""Findings about a bundle's files: the root, the program and what it needs to start, sources of mounts, hooks.

If an interpreter is missing, execve(2) says "no such file or directory" about the script, which exists; these findings
name the file that is missing.
"""

import os
import stat as st
from typing import Any

from toolkit.explain.finding import Found, found
from toolkit.explain.inside import Inside
from toolkit.explain.values import nearest
from toolkit.kernel import capabilities, reading, roots
from toolkit.text import quote

Spec = dict[str, Any]
_MOST_BYTES = 1 << 60  # no file is longer
_LONGEST_PATH_BYTES = 4096  # PATH_MAX

_PACKAGE_MANAGERS = ("apt", "apt-get", "aptitude", "dpkg", "debconf")
_NEEDED = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
# e_machine (elf.h) -> uname(2)'s name for the machine.
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64",
    243: "riscv64", 258: "loongarch64",
}  # fmt: skip
_RUNS = {"x86_64": (62, 3), "aarch64": (183, 40), "riscv64": (243,), "loongarch64": (258,)}
# The codes that say that something is missing from the root.
_MISSING = ("E202", "E204", "E205")


def findings(spec: Spec, bundle: str) -> list[Found]:
    """All findings about the files of a bundle; `spec` has the right types."""
    listed = _mounts(spec, bundle)
    inside = Inside(spec, bundle)
    given = (spec.get("root") or {}).get("path")
    if given:
        if _is_own(inside.root):
            listed.append(found("E209", "root.path", "is the host's own root", "ctk bootstrap bookworm ./rootfs"))
        elif _closed(inside.root):
            inside.closed = inside.root
        elif not os.path.isdir(inside.root):
            what = "is not a folder" if os.path.lexists(inside.root) else "does not exist"
            listed.append(
                found("E201", "root.path", f"{inside.root!r} {what}", f"ctk bootstrap bookworm {quote(inside.root)}")
            )
        elif not os.listdir(inside.root) and not spec.get("mounts"):
            listed.append(found("E201", "root.path", f"{inside.root!r} is empty"))
        else:
            listed += _program(spec, inside)
    listed += _hooks(spec, inside)
    if inside.closed:
        listed = [one for one in listed if one.code not in _MISSING and "startContainer" not in one.path]
        listed.append(found("W215", "root.path", f"you may not read {inside.closed!r}"))
    return listed + _packages(spec, inside)


def _is_own(root: str) -> bool:
    try:
        return roots.is_own(root)
    except OSError:
        return False


def _mounts(spec: Spec, bundle: str) -> list[Found]:
    listed = []
    inside = Inside({**spec, "mounts": []}, bundle)
    for index, mount in enumerate(spec.get("mounts") or ()):
        options = mount.get("options") or ()
        source = mount.get("source")
        if not source or not (mount.get("type") == "bind" or "bind" in options or "rbind" in options):
            continue
        path = os.path.join(bundle, source)
        if not os.path.lexists(path):
            near = nearest(os.path.basename(path), _listed(os.path.dirname(path)))
            close = os.path.join(os.path.dirname(path), near)
            hint = f"did you mean {close!r}?" if near else f"mkdir -p {quote(path)}"
            listed.append(found("E210", f"mounts[{index}].source", f"{path!r} does not exist", hint))
            continue
        there = inside.host_path(mount.get("destination") or "/")
        if there and os.path.exists(path) and os.path.isdir(path) != os.path.isdir(there):
            kinds = ("folder", "file") if os.path.isdir(path) else ("file", "folder")
            message = f"{path!r} is a {kinds[0]}, {mount.get('destination')!r} in the root is a {kinds[1]}"
            listed.append(found("E211", f"mounts[{index}]", message))
    if (spec.get("process") or {}).get("terminal") and not any(
        os.path.normpath(m.get("destination") or "") in ("/dev/pts", "/dev") and m.get("type") in ("devpts", "bind")
        for m in spec.get("mounts") or ()
    ):
        listed.append(found("E213", "process.terminal", "there is no devpts at /dev/pts to open it in"))
    return listed


def _closed(folder: str) -> bool:
    try:
        os.listdir(folder)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _program(spec: Spec, inside: Inside) -> list[Found]:
    process = spec.get("process") or {}
    args = process.get("args") or []
    if not args or not args[0]:
        return []
    name = args[0]
    where = "process.args[0]"
    if "/" in name:
        candidates = [os.path.join(process.get("cwd") or "/", name)]
    else:
        path = next((e[5:] for e in reversed(process.get("env") or ()) if e.startswith("PATH=")), "")
        if not path:
            hint = "add PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin, or give the full path"
            return [found("E202", "process.env", f"there is no PATH to find {name!r} in", hint)]
        candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")]
    problem: Found | None = None
    for candidate in candidates:
        host = inside.host_path(candidate)
        if not host:
            continue
        mode = os.stat(host).st_mode
        if st.S_ISDIR(mode):
            problem = problem or found("E203", where, f"{candidate!r} is a folder")
        elif not st.S_ISREG(mode):
            problem = problem or found("E203", where, f"{candidate!r} is not a regular file")
        elif not mode & 0o111:
            hint = f"chmod +x {quote(host)}"
            problem = problem or found("E203", where, f"{candidate!r} has no execute bit", hint)
        else:
            return _executable(candidate, host, inside, where)
    if problem is not None:
        return [problem]
    if any(inside.covered(os.path.normpath(candidate)) for candidate in candidates):
        return []  # it may exist by then
    if "/" in name:
        others = _listed(inside.host_path(os.path.dirname(candidates[0])) or "/nonexistent")
        near = nearest(os.path.basename(name), others)
        hint = f"did you mean {os.path.join(os.path.dirname(name), near)!r}?" if near else ""
        return [found("E202", where, f"{name!r} is not in the root", hint)]
    others = [n for c in candidates for n in _listed(inside.host_path(os.path.dirname(c)) or "/nonexistent")]
    near = nearest(name, others)
    searched = ", ".join(os.path.dirname(candidate) for candidate in candidates)
    hint = f"did you mean {near!r}?" if near else ""
    return [found("E202", where, f"{name!r} is in none of the root's {searched}", hint)]


def _rights_it_lacks(host: str, spec: Spec) -> list[str]:
    """The capabilities that a file insists on and that process.capabilities.bounding withholds."""
    limits = (spec.get("process") or {}).get("capabilities")
    if limits is None:
        return []  # then no capability is dropped
    below = any(namespace.get("type") == "user" for namespace in (spec.get("linux") or {}).get("namespaces") or ())
    allowed = capabilities.mask(limits.get("bounding") or ())
    return capabilities.names(capabilities.insisted_on(host, below=below) & ~allowed)


def _executable(path: str, host: str, inside: Inside, where: str, depth: int = 0) -> list[Found]:
    """What stops execve(2) of an existing, executable file, read from its first bytes (elf(5), execve(2))."""
    try:
        # The file is not trusted: it may be a FIFO without a writer, or its header may claim 2^62 bytes.
        with open(reading.open_file(host, limit_bytes=_MOST_BYTES), "rb") as file:
            head = file.read(4096)
            if head[:2] == b"#!":
                return _script(path, head, inside, where, depth)
            if head[:4] != b"\x7fELF":
                what = "is empty" if not head else "is neither an ELF file nor a script with #!"
                if head.lstrip()[:2] == b"#!":
                    what = "has its #! not at the very beginning"
                return [found("E207", where, f"{path!r} {what}")]
            machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
            if machine not in _RUNS.get(os.uname().machine, (machine,)) and not _has_emulator():
                name = _MACHINES.get(machine, f"e_machine {machine}")
                return [found("E206", where, f"{path!r} is for {name}, this host is {os.uname().machine}")]
            if missing := _rights_it_lacks(host, inside.spec):
                return [found("E208", where, f"{path!r} asks for {', '.join(missing)}, outside the bounding set")]
            loader = _loader(file, head)
    except OSError:
        return []
    if loader and not inside.host_path(loader):
        return [found("E205", where, f"{path!r} needs the loader {loader!r}, which is not in the root")]
    return []


def _script(path: str, head: bytes, inside: Inside, where: str, depth: int) -> list[Found]:
    line = head[2:].split(b"\n", 1)[0]
    words = line.strip().split(None, 1)
    interpreter = os.fsdecode(words[0]) if words else ""
    if line.endswith(b"\r"):
        hint = f"its lines end in CR LF: sed -i 's/\\r$//' {quote(path)}"
        return [found("E204", where, f"{path!r} is a script for {os.fsdecode(line.strip(b' '))!r}, CR included", hint)]
    host = inside.host_path(interpreter) if interpreter else ""
    if not host:
        if interpreter and inside.covered(interpreter):
            return []
        return [found("E204", where, f"{path!r} is a script for {interpreter!r}, which is not in the root")]
    return _executable(interpreter, host, inside, where, depth + 1) if depth < 4 else []


def _loader(file: Any, head: bytes) -> str:
    """The ELF interpreter that a program names (PT_INTERP), "" for a static one."""
    order: Any = "little" if head[5] == 1 else "big"

    def number(data: bytes, at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    wide = head[4] == 2
    table = number(head, 32, 8) if wide else number(head, 28, 4)
    size, count = (number(head, 54, 2), number(head, 56, 2)) if wide else (number(head, 42, 2), number(head, 44, 2))
    for index in range(count):
        row = _part(file, table + index * size, size)
        if number(row, 0, 4) == 3:
            offset, length = (
                (number(row, 8, 8), number(row, 32, 8)) if wide else (number(row, 4, 4), number(row, 16, 4))
            )
            # The kernel accepts none longer than a path either (fs/binfmt_elf.c).
            return os.fsdecode(_part(file, offset, length).rstrip(b"\0")) if length <= _LONGEST_PATH_BYTES else ""
    return ""


def _part(file: Any, offset: int, length: int) -> bytes:
    """`length` bytes of a file at `offset`; b"" beyond the largest possible file."""
    if offset > _MOST_BYTES:
        return b""
    file.seek(offset)
    part: bytes = file.read(length)
    return part


def _has_emulator() -> bool:
    """Does binfmt_misc run programs of other machines here? Then we can't judge them."""
    return any(name.startswith("qemu-") for name in _listed("/proc/sys/fs/binfmt_misc"))


def _hooks(spec: Spec, inside: Inside) -> list[Found]:
    listed = []
    for kind, hooks in (spec.get("hooks") or {}).items():
        for index, hook in enumerate(hooks if isinstance(hooks, list) else ()):
            # The types in a kind of hook that doesn't exist have not been checked.
            path = hook.get("path") if isinstance(hook, dict) else ""
            if not isinstance(path, str) or not path.startswith("/"):
                continue
            host = inside.host_path(path) if kind == "startContainer" else path
            if not host and inside.covered(path):
                continue
            if not host or not os.path.exists(host):
                listed.append(found("E212", f"hooks.{kind}[{index}].path", f"{path!r} does not exist"))
            elif not os.access(host, os.X_OK):
                hint = f"chmod +x {quote(host)}"
                listed.append(found("E212", f"hooks.{kind}[{index}].path", f"{path!r} is not executable", hint))
    return listed


def _packages(spec: Spec, inside: Inside) -> list[Found]:
    """apt and dpkg write to /usr, /etc and /var, and change users."""
    process = spec.get("process") or {}
    args = [word for word in process.get("args") or () if isinstance(word, str)]
    words = {os.path.basename(args[0])} if args else set()
    if len(args) > 2 and args[1].startswith("-") and "c" in args[1]:
        words |= {os.path.basename(word) for word in args[2].replace(";", " ").replace("&", " ").split()}
    manager = next((name for name in _PACKAGE_MANAGERS if name in words), "")
    if not manager:
        return []
    listed = []
    if (spec.get("root") or {}).get("readonly") and not inside.writable("/usr"):
        listed.append(found("W251", "root.readonly", f"{manager!r} has to write to the root, which is read-only"))
    effective = (process.get("capabilities") or {}).get("effective") or ()
    missing = [name for name in _NEEDED if name not in effective]
    if missing and not (process.get("user") or {}).get("uid"):
        listed.append(found("W252", "process.capabilities", f"{manager!r} will lack {', '.join(missing)}"))
    return listed
