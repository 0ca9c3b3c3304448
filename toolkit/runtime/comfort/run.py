"""`run` with options that only ctk has: --rm, --replace, --hold, --ephemeral, --overlay, --lower, --net, --init."""

import os

from toolkit.errors import NotFound, Usage
from toolkit.runtime import launch, plan, removal, session
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """The program's exit code; 0 with --detach. Raises CtkError."""
    _check(options)
    spec, _, bundle = launch.read_bundle(options)
    if options.replace:
        _make_way(options)
    under_way = launch.Launch(options)
    under_way.init = options.init
    if options.ephemeral or options.overlay:
        from toolkit.runtime.comfort import overlay

        under_way.overlay = overlay.over(spec, plan.root_path(spec, bundle), options)
        under_way.extra["layer"] = "memory"
        if options.overlay:
            under_way.extra["layer"] = folder = os.path.realpath(options.overlay)
            overlay.claim(folder, options.root, options.id)
    if options.net or options.publish:
        from toolkit.runtime.comfort import networks

        under_way.network = networks.Networking(options, under_way.extra)
    if not options.detach:
        return session.stay(under_way)
    held = not options.console_socket and (options.hold or options.interactive or session.by_hand(options))
    if not held and not options.rm:
        return session.leave(under_way)
    from toolkit.runtime.comfort import holder

    under_way.extra["options"] = _words(options)
    return holder.start(under_way, held=held)


def _check(options: "Options") -> None:
    doing = "read the command line of `run`"
    if options.rm and options.keep:
        raise Usage(doing, because="--rm and --keep contradict each other")
    if options.ephemeral and options.overlay:
        raise Usage(doing, because="--ephemeral forgets what --overlay keeps", hint="give one of them")
    if options.lower and not (options.ephemeral or options.overlay):
        raise Usage(doing, because="--lower needs --ephemeral or --overlay DIR for what is written")
    for name in ("hold", "interactive"):
        if options.value(name) and not options.detach:
            raise Usage(doing, because=f"--{name} is for a detached container", hint="add --detach (-d)")
    if options.hold and options.console_socket:
        raise Usage(doing, because="the listener at --console-socket gets the terminal", hint="give one of them")


def _make_way(options: "Options") -> None:
    """--replace: remove the container that has the id."""
    try:
        removal.delete(records.load(options.root, options.id), force=True)
    except NotFound:
        pass


_KEPT = frozenset(
    "systemd-cgroup cgroup-manager rootless no-pivot no-new-keyring config "
    "rm hold interactive ephemeral overlay lower net publish init".split()
)


def _words(options: "Options") -> "list[str]":
    """The options that `ctk restart` passes again, as a command line up to the bundle and the id."""
    from toolkit.runtime.options import GLOBAL, VERBS

    words: "list[str]" = []
    for table in (GLOBAL, VERBS["run"][5]):
        for name, _short, kind, *_ in table:
            if name in options.given and name in _KEPT:
                value = options.value(name)
                if kind == "flag":
                    value = "true" if value else "false"
                for one in value if kind == "list" else [value]:
                    words.append(f"--{name}={os.path.abspath(one) if name in ('overlay', 'lower') else one}")
        if table is GLOBAL:
            words.append("run")
    return words
