"""`ctk generate systemd`: a unit that runs a container as systemd would have it (systemd.service(5))."""

from toolkit.errors import NotFound, Usage
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_POLICIES = ("no", "on-failure", "on-abnormal", "on-abort", "on-watchdog", "on-success", "always")
_NOT_UNDER_SYSTEMD = ("--hold", "--rm", "--interactive")  # the unit's process stays in the foreground and removes


def text(root: str, container_id: str, *, launcher: "Sequence[str]", stop_s: float, restart: str) -> str:
    """The unit's text. `launcher`: the words that start ctk. Raises NotFound, Usage."""
    if restart not in _POLICIES:
        raise Usage(f"use {restart!r} for Restart=", because="systemd has no such policy", hint=", ".join(_POLICIES))
    container = records.load(root, container_id)
    if container.torn or not container.bundle:
        raise NotFound(f"write a unit for {container_id!r}", because="it was never made whole")
    words = container.extra.get("options")
    kept = [str(word) for word in words] if isinstance(words, list) else ["run"]
    kept = [word for word in kept if not word.startswith(_NOT_UNDER_SYSTEMD)]
    if _fits_systemd(container) and not any("cgroup" in word for word in kept):
        kept.insert(0, "--systemd-cgroup")  # the tree of cgroups is systemd's: the container gets a scope of its own
    ctk = [*launcher, f"--root={root}"]
    run = [*ctk, *kept, "--replace", f"--bundle={container.bundle}", container_id]
    stop = [*launcher, "stop", f"--root={root}", f"--time={stop_s:g}", container_id]
    remove = [*launcher, "rm", "--force", f"--root={root}", container_id]
    target = "default.target" if container.rootless else "multi-user.target"
    return f"""\
# Written by `ctk generate systemd {container_id}`.
# As root: put it into /etc/systemd/system/ctk-{container_id}.service, then
#   systemctl daemon-reload && systemctl enable --now ctk-{container_id}

[Unit]
Description=Container {_value(container_id)}
Wants=network-online.target
After=network-online.target
RequiresMountsFor={_word(container.bundle)}

[Service]
Type=exec
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
    """May systemd make the container's cgroup? Its path is then 'slice:prefix:name', or left to us."""
    path = (container.config().get("linux") or {}).get("cgroupsPath") or ""
    return not path or path.count(":") == 2


def _line(words: "Sequence[str]") -> str:
    return " ".join(_word(word).replace("$", "$$") for word in words)


def _word(word: str) -> str:
    """Quoted where systemd would cut or unescape it (systemd.syntax(7))."""
    escaped = _value(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped != word or any(c in word for c in " \t'\";") or not word else word


def _value(text: str) -> str:
    return text.replace("%", "%%")
