"""Carries out what a request asks for beyond packages (hooks_config.py), at four points of a build."""

import contextlib
import difflib
import os
import re
import stat
from collections.abc import Callable, Iterator

from toolkit.archive.entries import DIRECTORY, FILE, SYMLINK
from toolkit.bootstrap.customize import hooks
from toolkit.bootstrap.facts.hooks_config import HOOK_STAGES, NOTHING, Customisation, User
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.install.path_filter import Skips, path_filter
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.errors import NotFound, SystemCall, Usage
from toolkit.events import Emit, Line
from toolkit.kernel import reading
from toolkit.kernel.beneath import fd_path, make_directories, open_beneath

DPKG_FILE = "99ctk"  # in /etc/dpkg/dpkg.cfg.d, /etc/apt/apt.conf.d
_TITLES = {
    "setup": "Prepare",
    "extract": "Hooks after unpacking",
    "essential": "Hooks midway",
    "customize": "Customise",
}
_SYSTEM_STAGE = {"setup": "download", "extract": "configure", "essential": "configure", "customize": "tidy"}


def check(request: Request) -> None:
    """Raise Usage or NotFound for invalid or contradictory options, before anything is fetched or made."""
    custom = request.custom
    if custom == NOTHING:
        return
    if request.suite == "host" or request.or_host:
        raise Usage(
            "read the command line",
            because="a root of the host's programs is not customised",
            hint="hooks, and options such as --setup-user, belong to a suite of an archive",
        )
    custom.check()
    for name in HOOK_STAGES:
        for command in custom.hooks(name):
            hooks.check(command)
    if request.foreign and (_runs_inside(custom) or custom.hooks("essential") or custom.hooks("customize")):
        raise Usage(
            "read the command line",
            because="with --foreign nothing runs in the tree",
            hint="give users, names and the later hooks to the second stage: ctk bootstrap --second-stage TARGET …",
        )
    if request.variant == "extract":
        running = custom.locale or custom.timezone or custom.users or custom.root_password
        if running or custom.hooks("essential"):
            raise Usage(
                "read the command line",
                because="the variant 'extract' runs nothing in the tree",
                hint="of these options it takes --dpkg-opt, --apt-opt, --hostname, --resolv-conf and the other hooks",
            )


def planned(custom: Customisation, stages: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The stages of a build, with those that `custom` adds in between."""
    out: list[tuple[str, str]] = []
    extra = {name for name in HOOK_STAGES if custom.hooks(name)}
    if _runs_inside(custom):
        extra.add("customize")
    for key, title in stages:
        out += [(name, _TITLES[name]) for name in HOOK_STAGES if name in extra and _SYSTEM_STAGE[name] == key]
        out.append((key, title))
    return tuple(out)


def _runs_inside(custom: Customisation) -> bool:
    return bool(custom.users or custom.locale or custom.timezone or custom.root_password)


class Customiser:
    """Customises one build. The methods are called in the order of their definition; all raise CtkError, OSError."""

    def __init__(
        self, custom: Customisation, target: str, rootfd: int, lock: Lock, log_path: str, emulate: bytes, emit: Emit
    ) -> None:
        self._custom = custom
        self._rootfd = rootfd
        self._emit = emit
        self._log_path = log_path
        self._target = target
        self._emulate = emulate
        facts = {
            "CTK_SUITE": lock.suite,
            "CTK_ARCH": lock.architecture,
            "CTK_VARIANT": lock.variant,
            "MMDEBSTRAP_MODE": "root",
            "MMDEBSTRAP_VERBOSITY": "1",
            "MMDEBSTRAP_ARGV0": "ctk",
        }
        self._build = hooks.Build(os.path.realpath(target), rootfd, facts, log_path, emulate)
        self.skips: Skips | None = path_filter(custom.dpkg_lines())

    def setup(self) -> None:
        """Called before the first package: the options of dpkg and apt, the setup hooks."""
        for folder, lines in (
            ("etc/dpkg/dpkg.cfg.d", self._custom.dpkg_lines()),
            ("etc/apt/apt.conf.d", self._custom.apt_lines()),
        ):
            if lines:
                text = "".join(line + "\n" for line in lines)
                self._replace(f"{folder}/{DPKG_FILE}", text.encode("utf-8", "surrogateescape"))
        self._hooks("setup")

    def extracted(self) -> None:
        """Called when all packages are unpacked, and before any of their scripts runs."""
        custom = self._custom
        if custom.hostname:
            self._replace("etc/hostname", custom.hostname.encode() + b"\n")
        if custom.resolv_conf in ("keep", "none"):
            self._remove("etc/resolv.conf")
        elif custom.resolv_conf not in ("", "copy"):
            self._replace("etc/resolv.conf", reading.named(custom.resolv_conf))
        self._name_zone()
        self._hooks("extract")

    def sweep(self) -> None:
        """Remove files that another engine has unpacked in spite of path-exclude, found by dpkg's file lists."""
        if self.skips is None:
            return
        with self._folder("var/lib/dpkg/info") as info:
            names = [name for name in os.listdir(fd_path(info)) if name.endswith(".list")]
        paths = {path for name in names for path in self._read(f"var/lib/dpkg/info/{name}").splitlines() if path}
        for path in sorted(paths, reverse=True):
            above, _, last = path.lstrip(b"/").rpartition(b"/")
            if not last:
                continue
            try:
                folder = open_beneath(self._rootfd, os.fsdecode(above), os.O_PATH | os.O_DIRECTORY)
            except SystemCall:
                continue
            try:
                kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                tar_kind = DIRECTORY if stat.S_ISDIR(kind) else SYMLINK if stat.S_ISLNK(kind) else FILE
                if self.skips(path.lstrip(b"/"), tar_kind):
                    (os.rmdir if tar_kind == DIRECTORY else os.unlink)(last, dir_fd=folder)
            except OSError:  # it is missing, or a folder with other files in it
                continue
            finally:
                os.close(folder)

    def essential(self) -> None:
        """Called when the required packages are configured."""
        self._hooks("essential")

    def customize(self) -> None:
        """Called when all packages are configured."""
        custom = self._custom
        commands = custom.hooks("customize")
        if not commands and not _runs_inside(custom):
            if custom.resolv_conf == "none":
                self._remove("etc/resolv.conf")
            return
        with stage("customize", self._emit):
            if _runs_inside(custom):
                with Sandbox(
                    self._target,
                    self._log_path,
                    self._line("customize"),
                    lambda _: None,
                    emulate=self._emulate,
                    rootfd=self._rootfd,
                ) as sandbox:
                    self._inside(sandbox)
            self._run("customize", commands)
            if custom.resolv_conf == "none":
                self._remove("etc/resolv.conf")

    def _inside(self, sandbox: Sandbox) -> None:
        self._name_zone()
        if self._custom.locale:
            self._make_locale(sandbox)
        for user in self._custom.accounts():
            self._make_user(sandbox, user)
        word = self._custom.root_password
        if word == "locked":
            sandbox.run(["/usr/bin/passwd", "--lock", "root"], doing="lock root's password")
        elif word == "none":
            sandbox.run(["/usr/bin/passwd", "--delete", "root"], doing="delete root's password")
        elif word:
            kind, _, value = word.partition(":")
            if kind == "file":
                value = reading.text(value).partition("\n")[0]
            flag = ["-e"] if kind == "hashed" else []
            sandbox.run(["/usr/sbin/chpasswd", *flag], doing="set root's password", stdin=f"root:{value}\n".encode())

    def _name_zone(self) -> None:
        zone = self._custom.timezone
        if not zone:
            return
        if not self._there(f"usr/share/zoneinfo/{zone}"):
            if not self._there("usr/share/zoneinfo"):
                return  # tzdata is in the base set, which is unpacked later
            raise NotFound(
                f"set the time zone {zone!r}", because="tzdata knows no such zone", hint="for example Europe/Berlin"
            )
        with self._folder("etc") as etc:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("localtime", dir_fd=etc)
            os.symlink(f"/usr/share/zoneinfo/{zone}", "localtime", dir_fd=etc)
        self._replace("etc/timezone", zone.encode() + b"\n")

    def _make_locale(self, sandbox: Sandbox) -> None:
        locale = self._custom.locale
        if self._there("usr/share/i18n/SUPPORTED"):
            lines = self._read("usr/share/i18n/SUPPORTED").decode().splitlines()
            found = next((line for line in lines if line.split()[:1] == [locale]), "")
            if not found and locale.partition(".")[0] != "C":
                near = difflib.get_close_matches(locale, [line.split()[0] for line in lines if line.strip()], n=3)
                hint = "did you mean " + " or ".join(near) + "?" if near else ""
                because = "the package locales does not have it"
                raise NotFound(f"make the locale {locale!r}", because=because, hint=hint)
            if found:
                before = self._read("etc/locale.gen") if self._there("etc/locale.gen") else b""
                if found.encode() not in before.splitlines():
                    self._replace("etc/locale.gen", before.rstrip(b"\n") + b"\n" + found.encode() + b"\n")
                # Ubuntu's locale-gen takes names as arguments; Debian's reads the file and ignores them.
                sandbox.run(["/usr/sbin/locale-gen", locale], doing=f"make the locale {locale!r}")
        self._replace("etc/default/locale", f"LANG={locale}\n".encode())

    def _make_user(self, sandbox: Sandbox, user: User) -> None:
        number = ["--uid", str(user.uid)] if user.uid >= 0 else []
        groups = ["--groups", "sudo"] if user.sudo else []
        shell = "/bin/bash" if self._there("bin/bash") else "/bin/sh"
        sandbox.run(
            ["/usr/sbin/useradd", "--create-home", "--user-group", "--shell", shell, *number, *groups, user.name],
            doing=f"make the user {user.name!r}",
        )
        if user.sudo:
            # The account has no password, so sudo can't ask for one.
            rule = f"{user.name} ALL=(ALL:ALL) NOPASSWD: ALL\n"
            self._replace(f"etc/sudoers.d/90-{re.sub('[^a-z0-9_-]', '_', user.name)}", rule.encode(), mode=0o440)

    def _hooks(self, name: str) -> None:
        commands = self._custom.hooks(name)
        if commands:
            with stage(name, self._emit):
                self._run(name, commands)

    def _run(self, name: str, commands: tuple[str, ...]) -> None:
        for command in commands:
            hooks.run(name, command, self._build, self._line(name))

    def _line(self, name: str) -> Callable[[str], None]:
        return lambda text: self._emit(Line(name, text))

    def _there(self, path: str) -> bool:
        try:
            os.close(open_beneath(self._rootfd, path, os.O_PATH))
        except SystemCall:
            return False
        return True

    def _read(self, path: str) -> bytes:
        fd = open_beneath(self._rootfd, path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            reading.check(fd, path)
            return reading.whole(fd, path)
        finally:
            os.close(fd)

    def _remove(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        with self._folder(above) as folder, contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def _replace(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file. A link of that name is replaced too, not followed: it could lead to a file of the host."""
        above, _, name = path.rpartition("/")
        with self._folder(above) as folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        fd = make_directories(self._rootfd, path)
        try:
            yield fd
        finally:
            os.close(fd)
