"""Everyday commands: `ctk logs`, `attach`, `stop`, `restart`, `rm`, `cp`, `generate systemd`."""

import os
import sys

from toolkit.cli import complete, declare, output
from toolkit.cli.declare import Annotated
from toolkit.runtime.comfort.detach_keys import DETACH_KEYS

_PANEL = "Every day"

generate = declare.App(no_args_is_help=True)

Id = Annotated[
    str, declare.Argument(metavar="ID", help="The container.", show_default=False, autocompletion=complete.containers)
]
Ids = Annotated[
    list[str],
    declare.Argument(metavar="ID…", help="The containers.", show_default=False, autocompletion=complete.containers),
]
Root = Annotated[
    str,
    declare.Option("--root", metavar="DIR", help="Folder of the container records.", show_default="CTK_ROOT, /run/ctk"),
]
Time = Annotated[
    float, declare.Option("--time", "-t", metavar="SECONDS", min=0, help="How long to wait before SIGKILL.")
]
Signal = Annotated[
    str,
    declare.Option(
        "--signal", "-s", metavar="NAME", help="Signal that asks it to stop.", show_default="its image's, or TERM"
    ),
]


def register(app: declare.App) -> None:
    """Add the group's commands."""
    for function, example in (
        (logs, "ctk logs -f --since 10m web"),
        (attach, "ctk attach web     (Ctrl-P Ctrl-Q leaves it running)"),
        (stop, "ctk stop --time 30 web db"),
        (restart, "ctk restart web"),
        (rm, "ctk rm -f web"),
        (cp, "ctk cp web:/var/log ./logs     or: tar -c . | ctk cp - web:/srv"),
    ):
        app.command(function.__name__, libraries=False, rich_help_panel=_PANEL, epilog=f"Example: {example}")(function)
    app.add_group(generate, name="generate", help="Write a systemd unit for a container.", rich_help_panel=_PANEL)


def _place(root: str) -> str:
    from toolkit import places

    return os.path.abspath(root) if root else places.runtime_root()


def _say(text: str) -> None:
    output.err(f"ctk: {text}\n")


def logs(
    container: Id,
    follow: Annotated[bool, declare.Option("--follow", "-f", help="Keep printing until the container ends.")] = False,
    since: Annotated[
        str, declare.Option("--since", metavar="TIME", help="Only lines since then: 10m (ago), 2026-01-31T10:00:00Z.")
    ] = "",
    tail: Annotated[
        int, declare.Option("--tail", "-n", metavar="N", help="Only the last N lines.", show_default="all")
    ] = -1,
    timestamps: Annotated[bool, declare.Option("--timestamps", "-t", help="Print the time of each line.")] = False,
    root: Root = "",
) -> None:
    """Show the output of a detached container.

    ctk run --detach keeps the output if it was started from a terminal, or with --hold.
    """
    from toolkit.runtime.comfort import logs

    logs.show(_place(root), container, follow=follow, since=since, tail=tail, timestamps=timestamps)


def attach(
    container: Id,
    detach_keys: Annotated[
        str, declare.Option("--detach-keys", metavar="KEYS", help="Keys that detach and leave the container running.")
    ] = DETACH_KEYS,
    sig_proxy: Annotated[
        bool, declare.Option("--sig-proxy/--no-sig-proxy", help="Pass signals that ctk receives on to it.")
    ] = True,
    root: Root = "",
) -> None:
    """Join the terminal, or the input and output, of a detached container.

    The exit code is the container's, or 0 after detaching.
    """
    from toolkit.runtime.comfort import attach

    sys.exit(attach.attach(_place(root), container, detach_keys=detach_keys, proxy=sig_proxy))


def stop(containers: Ids, time: Time = 10, signal: Signal = "", root: Root = "") -> None:
    """Stop containers: ask, wait, then kill. Their records stay, for logs and restart."""
    from toolkit.runtime.comfort import stopping

    for container in containers:
        stopping.stop(_place(root), container, signal=signal, timeout_s=time, say=_say)
        output.out(container + "\n")


def restart(ctx: declare.Context, containers: Ids, time: Time = 10, signal: Signal = "", root: Root = "") -> None:
    """Stop containers and run them again, detached, from their bundles and with the same options."""
    from toolkit.runtime.comfort import stopping
    from toolkit.up import launch

    where = _place(root)
    for container in containers:
        words = stopping.again(where, container)
        stopping.stop(where, container, signal=signal, timeout_s=time, say=_say)
        stopping.wait_until_noted(where, container)
        forget_log = stopping.leave_log(where, container)
        code = launch.call(words, ctx.obj)
        forget_log()
        if code:
            sys.exit(code)
        output.out(container + "\n")


def rm(
    containers: Ids,
    force: Annotated[bool, declare.Option("--force", "-f", help="Kill running ones, and ignore missing ones.")] = False,
    root: Root = "",
) -> None:
    """Remove containers. Their bundles stay, but for one that was made from an image, with what was written to it."""
    from toolkit import places
    from toolkit.errors import NotFound
    from toolkit.runtime.comfort import stopping

    for container in containers:
        bundle = "" if "/" in container else places.bundle_dir(container)
        made = bool(bundle) and os.path.lexists(bundle)
        if made:
            from toolkit.up import from_image
        try:
            stopping.remove(_place(root), container, force=force)
        except NotFound:
            if not made or not from_image.is_one(bundle):
                raise
        if made:  # alone, if its container could not be started
            from_image.remove(bundle)
        output.out(container + "\n")


def cp(
    source: Annotated[
        str,
        declare.Argument(
            metavar="SRC", help="ID:PATH, a path on the host, or - for a tar on stdin.", show_default=False
        ),
    ],
    target: Annotated[
        str,
        declare.Argument(
            metavar="DEST", help="ID:PATH, a path on the host, or - for a tar on stdout.", show_default=False
        ),
    ],
    archive: Annotated[bool, declare.Option("--archive", "-a", help="Keep owners.")] = False,
    follow_link: Annotated[
        bool, declare.Option("--follow-link", "-L", help="If SRC is a symbolic link, copy what it points to.")
    ] = False,
    root: Root = "",
) -> None:
    """Copy files out of a container or into it, whether it runs or has stopped."""
    from toolkit.runtime.comfort import copying

    copying.copy(_place(root), source, target, archive=archive, follow=follow_link, say=_say)


@generate.command("systemd", epilog="Example: ctk generate systemd web > /etc/systemd/system/ctk-web.service")
def systemd(
    container: Id,
    time: Time = 10,
    restart_policy: Annotated[
        str, declare.Option("--restart-policy", metavar="POLICY", help="systemd's Restart=: no, on-failure, always.")
    ] = "on-failure",
    notify: Annotated[
        bool, declare.Option("--notify", help="Type=notify: the container's program says when it is ready (sd_notify).")
    ] = False,
    root: Root = "",
) -> None:
    """Print a systemd unit that runs the container."""
    from toolkit.runtime.comfort import unit
    from toolkit.up import launch

    text = unit.text(
        _place(root), container, launcher=launch.launcher(), stop_s=time, restart=restart_policy, notify=notify
    )
    output.exactly(text)
