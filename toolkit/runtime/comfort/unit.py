"""`ctk generate systemd`: a service unit that runs a container (systemd.service(5))."""

from toolkit.errors import NotFound, Usage
from toolkit.runtime import notify as ready
from toolkit.runtime import record as records
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_POLICIES = ("no", "on-failure", "on-abnormal", "on-abort", "on-watchdog", "on-success", "always")
_NOT_UNDER_SYSTEMD = ("--hold", "--rm", "--interactive")  # the unit stays in the foreground and removes it


def text(
    root: str, container_id: str, *, launcher: "Sequence[str]", stop_s: float, restart: str, notify: bool = False
) -> str:
    """The unit's text. Raises NotFound, Usage.

    `launcher`: the command that starts ctk; `notify`: the program reports when it is ready, which is also assumed if it
    has done so in this container.
    """
    if restart not in _POLICIES:
        raise Usage(f"use {restart!r} for Restart=", because="systemd has no such policy", hint=", ".join(_POLICIES))
    container = records.load(root, container_id)
    if container.torn or not container.bundle:
        raise NotFound(f"write a unit for {container_id!r}", because="it was never fully created")
    words = container.extra.get("options")
    kept = [str(word) for word in words] if isinstance(words, list) else ["run"]
    kept = [word for word in kept if not word.startswith(_NOT_UNDER_SYSTEMD)]
    if _fits_systemd(container) and not any("cgroup" in word for word in kept):
        kept.insert(0, "--systemd-cgroup")  # systemd owns the cgroup tree: the container gets a scope of its own
    ctk = [*launcher, f"--root={root}"]
    run = [*ctk, *kept, "--replace", f"--bundle={container.bundle}", container_id]
    stop = [*launcher, "stop", f"--root={root}", f"--time={stop_s:g}", container_id]
    remove = [*launcher, "rm", "--force", f"--root={root}", container_id]
    target = "default.target" if container.rootless else "multi-user.target"
    kind = "notify" if notify or ready.has_said_so(container) else "exec"
    return f"""\
# Written by `ctk generate systemd {quote(container_id)}`.
# As root: put it into /etc/systemd/system/ctk-{container_id}.service, then
#   systemctl daemon-reload && systemctl enable --now ctk-{container_id}

[Unit]
Description=Container {container_id}
Wants=network-online.target
After=network-online.target
{_mounts_for(container.bundle)}
[Service]
Type={kind}
ExecStart={_line(run)}
ExecStop={_line(stop)}
ExecStopPost=-{_line(remove)}
# 143: it ended by SIGTERM, as asked.
SuccessExitStatus=143
Restart={restart}
TimeoutStopSec={stop_s + 15:g}
KillMode=mixed
Delegate=yes

[Install]
WantedBy={target}
"""


def _fits_systemd(container: "records.Record") -> bool:
    """Whether systemd can make the container's cgroup: if its path is 'slice:prefix:name', or left to us."""
    path = (container.config().get("linux") or {}).get("cgroupsPath") or ""
    return not path or path.count(":") == 2


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@$")


def _mounts_for(path: str) -> str:
    """The setting with its newline; "" for a path that it can't hold, because it has no escapes (systemd.unit(5))."""
    word = _word(path)
    return f"RequiresMountsFor={word}\n" if "\\x" not in word.replace("\\\\", "") else ""


def _line(words: "Sequence[str]") -> str:
    """A command line (systemd.service(5)): variables are not expanded in the program's path."""
    return " ".join([_word(words[0]), *(_word(word).replace("$", "$$") for word in words[1:])])


def _word(word: str) -> str:
    """One word of a unit, quoted, and escaped where systemd would end, cut, expand or unescape it.

    (systemd.syntax(7), systemd.unit(5).)
    """
    if word and _PLAIN.issuperset(word):
        return word
    # A unit is UTF-8 text of lines: other bytes and line ends are escaped byte by byte.
    return '"' + "".join(_SPECIAL.get(c) or (c if c.isprintable() else _bytes(c)) for c in word) + '"'


_SPECIAL = {"%": "%%", "\\": "\\\\", '"': '\\"'}


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
