"""The steps of a launch plan other than mounts, devices and the root itself: hooks, names, sysctls.

Of each step, `field` is the JSON path that asked for it, `describe()` describes it in words, as system calls and as
shell lines, and `emit` writes its system calls into the program of the launch (first_process.py). They are carried out
in order, before privileges are dropped; those before `EnterRoot` still see the host's /proc, which the container cannot
forge.
"""

import errno
import os

from toolkit.errors import LaunchFailed
from toolkit.kernel import mounts
from toolkit.kernel.program.program import Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Hook
    from toolkit.runtime.site import Site

    Description = tuple[str, str, str]


class Step:
    """One step; `field` is the JSON path in config.json that asked for it, "" if ctk itself did."""

    __slots__ = ("field",)

    def __init__(self, field: str = "") -> None:
        self.field = field

    def describe(self) -> "Description":
        """(a sentence, the system calls in strace's notation, shell lines that do the same; `$root` is the root)."""
        raise NotImplementedError

    def emit(self, p: "Program", site: "Site") -> None:
        """Write its system calls into a program. A failure has an owner who says what it means."""
        raise NotImplementedError


class AwaitHooks(Step):
    """Let the parent run the hooks that need to see the finished root from the host."""

    __slots__ = ("container_hooks", "state")

    def __init__(self, container_hooks: "Sequence[Hook]") -> None:
        super().__init__("hooks")
        self.container_hooks = container_hooks

    def describe(self) -> "Description":
        return ("run the hooks prestart, createRuntime and createContainer", "execve(hook.path, …)", "")

    def emit(self, p: "Program", site: "Site") -> None:
        from toolkit.runtime import container_hooks, conversation, finish

        finish.say(p, site.pipes[1], conversation.MOUNTED)
        finish.hear(p, site.pipes[0], conversation.HOOKED)
        if site.hook_streams is not None:
            container_hooks.emit(p, self.container_hooks, site.hook_streams, site.root)


class SetNames(Step):
    """sethostname(2) and setdomainname(2)."""

    __slots__ = ("domainname", "hostname")

    def __init__(self, hostname: str, domainname: str) -> None:
        super().__init__("hostname" if hostname else "domainname")
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import put

        calls, lines = [], []
        for name, value in (("hostname", self.hostname), ("domainname", self.domainname)):
            if value:
                calls.append(f'set{name}("{value}", {len(value.encode())})')
                lines.append(f"{put(value)} > /proc/sys/kernel/{name}")
        return ("name the machine", "; ".join(calls), "\n".join(lines))

    def emit(self, p: "Program", site: "Site") -> None:
        for call, name in (("sethostname", self.hostname), ("setdomainname", self.domainname)):
            if name:
                p.call(call, name, len(os.fsencode(name)))


class SetSysctl(Step):
    """Set a kernel parameter of the container's own namespaces (sysctl(8))."""

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: str) -> None:
        super().__init__(f"linux.sysctl.{key}")
        self.key = key
        self.value = value

    def path(self) -> str:
        """The file of the key; a `/` in a key is a literal dot, as in sysctl(8)."""
        if "/" in self.key and self.key.find("/") < (self.key.find(".") if "." in self.key else len(self.key)):
            return "/proc/sys/" + self.key
        return "/proc/sys/" + self.key.replace(".", "\0").replace("/", ".").replace("\0", "/")

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import put
        from toolkit.text import quote as word

        return (
            f"set {self.key}",
            f'write(open("{self.path()}", O_WRONLY), "{self.value}", {len(self.value.encode())})',
            f"{put(self.value)} > {word(self.path())}",
        )

    def emit(self, p: "Program", site: "Site") -> None:
        # The host's procfs shows this process's namespaces: what counts is which process opens it, not the mount.
        fd, missing, opened = p.cell(), Label(), Label()
        doing = f"set sysctl {self.key!r} to {self.value!r}"
        p.owned_by(lambda error: LaunchFailed(doing, because=error.because))
        if ".." in self.path().split("/"):
            p.fail(errno.EINVAL)
        flags = os.O_WRONLY | os.O_CLOEXEC
        p.call("openat", mounts.AT_FDCWD, self.path(), flags, 0, result=fd, on=((errno.ENOENT, missing),))
        p.place(opened)
        p.call("write", fd, self.value, len(self.value.encode()))
        p.call("close", fd)

        def by_our_own() -> None:
            # The host's procfs may not show it (systemd's ProcSubset=pid): use a procfs of our own.
            fs, proc, refused = p.cell(), p.cell(), Label()
            p.place(missing)
            p.call("fsopen", "proc", mounts.FSOPEN_CLOEXEC, result=fs, on=((0, refused),))
            p.call("fsconfig", fs, mounts.FSCONFIG_CMD_CREATE, 0, 0, 0, on=((0, refused),))
            p.call("fsmount", fs, mounts.FSMOUNT_CLOEXEC, 0, result=proc, on=((0, refused),))
            p.call("close", fs)
            p.call("openat", proc, self.path().removeprefix("/proc/"), flags, 0, result=fd)
            p.call("close", proc)
            p.go(opened)
            p.place(refused)
            p.fail(errno.ENOENT)

        p.aside(by_our_own)
        p.owned_by(None)


class MakeWorkingDirectory(Step):
    """Make process.cwd if it is missing, as root, before we become the container's user."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        super().__init__("process.cwd")
        self.path = path

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import in_root

        return ("make the working directory", f'mkdirat(root, "{self.path}", 0755)', f"mkdir -p {in_root(self.path)}")

    def emit(self, p: "Program", site: "Site") -> None:
        fd, after = p.cell(), Label()
        p.owned_by(lambda error: LaunchFailed(f"make the working directory {self.path!r}", because=str(error)))
        site.directories.make_if_writable(self.path, fd, after)  # else it may exist anyway, or be inside a mount
        p.call("close", fd)
        p.place(after)
        p.owned_by(None)
