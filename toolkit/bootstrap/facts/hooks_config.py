"""What a request asks for beyond packages: hooks, options of dpkg and apt, names, users. Plain values and their checks.

The names are those of mmdebstrap(1), sections OPTIONS and HOOKS.
"""

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from typing import NamedTuple

from toolkit.errors import NotFound, Usage
from toolkit.kernel import reading

HOOK_STAGES = ("setup", "extract", "essential", "customize")

_DOING = "read the command line"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8), what it accepts without --badname
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")  # hostname(7)
_LOCALE = re.compile(r"[A-Za-z]{1,8}(_[A-Za-z]{2,8})?(\.[A-Za-z0-9-]+)?(@[a-z]+)?")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_BUILT_IN_LOCALES = frozenset(("C", "POSIX", "C.UTF-8", "C.utf8"))
_RESOLV_WORDS = ("", "copy", "keep", "none")


class User(NamedTuple):
    """An account to create. `uid` is -1 if useradd(8) may choose it."""

    name: str
    uid: int
    sudo: bool


@dataclass(frozen=True, slots=True)
class Customisation:
    """The options as typed; `check` checks them."""

    setup_hooks: tuple[str, ...] = ()
    extract_hooks: tuple[str, ...] = ()
    essential_hooks: tuple[str, ...] = ()
    customize_hooks: tuple[str, ...] = ()
    hook_folders: tuple[str, ...] = ()
    dpkg_options: tuple[str, ...] = ()  # each an option of dpkg(1) without its dashes, or a file of them
    apt_options: tuple[str, ...] = ()  # each a setting of apt.conf(5), or a file of them
    users: tuple[str, ...] = ()  # NAME[:UID][:sudo]
    locale: str = ""
    timezone: str = ""
    hostname: str = ""
    resolv_conf: str = ""  # "" is copy
    root_password: str = ""  # locked, none, hashed:HASH, file:PATH
    merged_usr: bool | None = None  # None: the suite's rule

    def hooks(self, stage: str) -> tuple[str, ...]:
        """The commands of one of HOOK_STAGES in order: the scripts of the hook folders (by name), then those typed."""
        scripts = []
        for folder in self.hook_folders:
            found = sorted(name for name in os.listdir(folder) if name.startswith(stage))
            paths = (os.path.join(os.path.abspath(folder), name) for name in found)
            scripts += [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]
        typed: tuple[str, ...] = getattr(self, f"{stage}_hooks")
        return (*scripts, *typed)

    def packages(self) -> tuple[str, ...]:
        """The packages that the options need."""
        wanted = []
        if self.locale and self.locale not in _BUILT_IN_LOCALES:
            wanted.append("locales")
        if self.timezone:
            wanted.append("tzdata")
        if any(user.sudo for user in self.accounts()):
            wanted.append("sudo")
        return tuple(wanted)

    def accounts(self) -> tuple[User, ...]:
        """The users, parsed. Raises Usage."""
        return tuple(_user(text) for text in self.users)

    def dpkg_lines(self) -> tuple[str, ...]:
        """`dpkg_options` as lines of /etc/dpkg/dpkg.cfg.d/… Raises NotFound."""
        return tuple(line for text in self.dpkg_options for line in _file_or(text.removeprefix("--")))

    def apt_lines(self) -> tuple[str, ...]:
        """`apt_options` as lines of /etc/apt/apt.conf.d/…; each setting ends with a semicolon."""
        lines: list[str] = []
        for text in self.apt_options:
            content = _file_or(text)
            if content == (text,) and not text.rstrip().endswith((";", "}")):
                content = (text + ";",)
            lines += content
        return tuple(lines)

    def build_id(self, build_id: str) -> str:
        """The build id with this customisation; `build_id` is the one without any."""
        if self == NOTHING:
            return build_id
        facts = asdict(self) | {"dpkg_options": self.dpkg_lines(), "apt_options": self.apt_lines()}
        return hashlib.sha256(repr((build_id, sorted(facts.items()))).encode()).hexdigest()

    def check(self) -> None:
        """Raise Usage or NotFound for an invalid option, before anything is fetched or made."""
        self.accounts()
        self.dpkg_lines()
        self.apt_lines()
        for option, value, pattern in (
            ("--hostname", self.hostname, _HOSTNAME),
            ("--locale", self.locale, _LOCALE),
            ("--timezone", self.timezone, _ZONE),
        ):
            if value and not pattern.fullmatch(value):
                raise Usage(_DOING, because=f"{option} {value!r} is not a valid name")
        for folder in self.hook_folders:
            if not os.path.isdir(folder):
                raise NotFound(f"read the hooks of {folder!r}", because="there is no such folder")
        if self.resolv_conf not in _RESOLV_WORDS and not os.path.isfile(self.resolv_conf):
            raise Usage(
                _DOING,
                because=f"--resolv-conf {self.resolv_conf!r} is not a file",
                hint="copy (the host's, the default), keep (whatever the packages and hooks make), none, or a FILE",
            )
        _check_password(self.root_password)


NOTHING = Customisation()


def _user(text: str) -> User:
    name, *rest = text.split(":")
    sudo = "sudo" in rest
    numbers = [word for word in rest if word != "sudo"]
    right = _USER.fullmatch(name) and len(numbers) <= 1 and all(word.isascii() and word.isdigit() for word in numbers)
    if not right or (numbers and not 0 < int(numbers[0]) < 0xFFFFFFFF):
        because = f"--setup-user {text!r} is not of the form NAME[:UID][:sudo]"
        raise Usage(_DOING, because=because, hint="for example dev:1000:sudo")
    return User(name, int(numbers[0]) if numbers else -1, sudo)


def _check_password(word: str) -> None:
    kind, _, value = word.partition(":")
    if kind == "file" and not os.path.isfile(value):
        raise NotFound("read root's password", because=f"there is no file {value!r}")
    if word in ("", "locked", "none") or (kind == "file" and value):
        return
    if kind == "hashed" and value and not set(value) & set(":\n"):
        return
    raise Usage(
        _DOING,
        because="--root-password takes locked, none, hashed:HASH or file:PATH",
        hint="a plain password on the command line can be seen in `ps` by every user of this machine",
    )


def _file_or(text: str) -> tuple[str, ...]:
    """The lines of the file named `text` if it exists, otherwise `text` itself."""
    if not os.path.isfile(text):
        return (text,)
    return tuple(reading.text(text, errors="surrogateescape").splitlines())
