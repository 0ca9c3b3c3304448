"""Findings about the kernel: its version, namespaces, what forbids user namespaces, seccomp, LSMs, overlay."""

import os
import shutil
import sys
from collections.abc import Iterator

from toolkit import preload
from toolkit.care.finding import BAD, NOTE, OK, WARN, Finding
from toolkit.kernel import capabilities, namespaces, seccomp
from toolkit.kernel.host import HostFacts, read

_FLOOR = (5, 12)  # mount_setattr(2)
_NEEDED = ("mnt", "pid", "net", "ipc", "uts", "user")
_OPTIONS = {"mnt": "", "pid": "PID_NS", "net": "NET_NS", "ipc": "IPC_NS", "uts": "UTS_NS", "user": "USER_NS"}
_PROFILE = "/etc/apparmor.d/ctk"


def kernel(facts: HostFacts) -> Iterator[Finding]:
    """The kernel version, and whether this is WSL 2."""
    release = os.uname().release
    if facts.kernel < _FLOOR:
        what = f"Linux {release} is older than {_FLOOR[0]}.{_FLOOR[1]} and lacks mount_setattr(2)"
        yield Finding("kernel", BAD, what, "run", "sudo apt-get install linux-image-amd64")
    else:
        yield Finding("kernel", OK, f"Linux {release} on {os.uname().machine}")
    if facts.wsl:
        old = "microsoft-standard-wsl2" not in release.lower()
        yield Finding(
            "wsl",
            BAD if old else NOTE,
            "WSL 1 has no namespaces" if old else "WSL 2; keep root file systems off /mnt/c, which has no device nodes",
            "run",
            "wsl --set-version DISTRO 2" if old else "",
        )
    if facts.in_user_namespace:
        yield Finding("host", NOTE, "we are in a user namespace ourselves: no device nodes, no sysctls of the host")


def namespace_kinds(_: HostFacts) -> Iterator[Finding]:
    """Each kind of namespace that the kernel was built with."""
    there = [name for name in sorted(os.listdir("/proc/self/ns")) if not name.endswith("_for_children")]
    missing = [kind for kind in _NEEDED if kind not in there]
    for kind in missing:
        yield Finding("namespaces", BAD, f"the kernel has no {kind} namespaces (CONFIG_{_OPTIONS[kind]})", "run")
    if not os.geteuid() and not capabilities.capget()[0] & capabilities.mask(["CAP_SYS_ADMIN"]):
        what = "root here lacks CAP_SYS_ADMIN, which they need: start the container with it, or work outside of it"
        yield Finding("namespaces", BAD, what, "run, bootstrap")
    elif not missing:
        yield Finding("namespaces", OK, ", ".join(there))
    for kind, since in (("cgroup", "4.6"), ("time", "5.6")):
        if kind not in there:
            yield Finding("namespaces", WARN, f"no {kind} namespaces (Linux {since})", "run with one in config.json")


def user_namespaces(facts: HostFacts) -> Iterator[Finding]:
    """Whether an ordinary user may make a user namespace (it is tried), and what forbids it."""
    hard = BAD if os.geteuid() else WARN
    need = "run and bootstrap without root"
    found = False
    for path, forbidden, fix in (
        ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", apparmor_fix()),
    ):
        if read(path).strip() == forbidden:
            name = path.removeprefix("/proc/sys/").replace("/", ".")
            found = True
            yield Finding("user namespaces", hard, f"forbidden: sysctl {name} is {forbidden}", need, fix)
    if found:
        return
    refused = facts.user_namespaces or _try_user_namespace()
    if refused:
        yield Finding("user namespaces", hard, refused, need, "")
    else:
        yield Finding("user namespaces", OK, "an ordinary user may make them")


def apparmor_fix() -> str:
    """The command that lets our own Python, and no other program, make user namespaces (Ubuntu 23.10 and later)."""
    program = os.path.realpath(sys.executable)
    profile = f"abi <abi/4.0>,\\nprofile ctk {program} flags=(unconfined) {{ userns, }}\\n"
    return f"printf '{profile}' | sudo tee {_PROFILE} && sudo apparmor_parser -r {_PROFILE}"


def _try_user_namespace() -> str:
    """Why an unprivileged process can't make a user namespace; "" if it can. A child process tries it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        problem = b"it was not tried"
        try:
            preload.leave_files()
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            problem = b"\0"
        except Exception as error:
            problem = str(error).encode()
        finally:
            # Whatever happens: a child that goes on would do what its parent does.
            os.write(theirs, problem)
            os._exit(0)
    os.close(theirs)
    answer = os.read(ours, 4096)
    os.close(ours)
    os.waitpid(child, 0)
    return "" if answer == b"\0" else answer.decode(errors="replace") or "the child that tried it has died"


def confinement(facts: HostFacts) -> Iterator[Finding]:
    """seccomp, and the security modules whose profiles a spec can name."""
    actions = seccomp.available_actions()
    if not actions:
        yield Finding("seccomp", WARN, "the kernel has no filters (CONFIG_SECCOMP_FILTER)", "run with linux.seccomp")
    else:
        missing = [name for name in ("kill_process", "user_notif", "log") if name not in actions]
        yield Finding("seccomp", OK, "filters" + (f", without {', '.join(missing)}" if missing else ""))
    active = [name for name in ("AppArmor", "SELinux") if getattr(facts, name.lower())]
    listed = f" ({', '.join(facts.lsms)})" if facts.lsms else ""
    yield Finding("security modules", NOTE, (", ".join(active) or "neither AppArmor nor SELinux is active") + listed)


def overlay(facts: HostFacts) -> Iterator[Finding]:
    """Whether overlay file systems can be mounted, and whether without root."""
    listed = read("/proc/filesystems")
    if not listed:
        yield Finding("overlay", NOTE, "/proc shows no file systems here (ProcSubset=pid?)")
    elif "\toverlay" not in listed:
        module = f"/lib/modules/{os.uname().release}/kernel/fs/overlayfs"
        state = NOTE if os.path.isdir(module) else WARN
        what = "the module is not loaded" if state == NOTE else "the kernel has none"
        yield Finding("overlay", state, what, "run --ephemeral", "sudo modprobe overlay")
    else:
        yield Finding("overlay", OK, "can be mounted" + (", by users too" if facts.kernel >= (5, 11) else " by root"))


def emulation(_: HostFacts) -> Iterator[Finding]:
    """qemu-user and binfmt_misc, for other architectures."""
    folder = "/proc/sys/fs/binfmt_misc"
    try:
        entries = sorted(name.removeprefix("qemu-") for name in os.listdir(folder) if name.startswith("qemu-"))
    except OSError:
        entries = []
    programs = [name for name in ("qemu-aarch64-static", "qemu-aarch64", "qemu-x86_64-static") if shutil.which(name)]
    if entries:
        yield Finding("other architectures", OK, f"binfmt_misc runs {', '.join(entries)}")
    elif programs:
        yield Finding("other architectures", NOTE, f"{programs[0]} is installed; the host has no binfmt_misc entry")
    else:
        fix = "sudo apt-get install qemu-user-static"
        yield Finding("other architectures", NOTE, "no qemu-user", "bootstrap --arch", fix)
