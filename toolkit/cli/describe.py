"""Describe: `ctk spec`."""

from typing import Annotated

import typer

from toolkit.cli import output

_PANEL = "Describe"
_EXAMPLE = "Example: ctk spec --rootfs debianfs --writable --memory 64M -- bash"
_ROOT, _PROGRAM, _RIGHTS, _HOST = "Root and mounts", "Program", "Rights", "Namespaces"
_LIMITS, _ANY = "Limits", "Any field, and the file"


def register(app: typer.Typer) -> None:
    """Add the group's commands."""
    app.command("spec", rich_help_panel=_PANEL, epilog=_EXAMPLE)(spec)


def _texts(name: str, metavar: str, text: str, panel: str, *more: str) -> object:
    return typer.Option(name, *more, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


Texts = list[str] | None


def spec(
    command: Annotated[
        Texts, typer.Argument(metavar="[-- CMD…]", help="The program and its arguments.", show_default="sh")
    ] = None,
    rootfs: Annotated[str, _texts("--rootfs", "DIR", "The root file system; it is checked.", _ROOT)] = "",
    writable: Annotated[
        bool | None,
        typer.Option(
            "--writable/--read-only",
            help="May the root be written to? --writable also adds the capabilities that installing packages needs.",
            rich_help_panel=_ROOT,
            show_default=False,
        ),
    ] = None,
    mount: Annotated[Texts, _texts("--mount", "type=…,src=…,dst=…", "Add a mount.", _ROOT)] = None,
    volume: Annotated[Texts, _texts("--volume", "SRC:DST[:ro]", "Add a bind mount.", _ROOT, "-v")] = None,
    tmpfs: Annotated[Texts, _texts("--tmpfs", "DST[:OPTIONS]", "Add a tmpfs.", _ROOT)] = None,
    from_image: Annotated[
        str, _texts("--from-image", "DIR[:TAG]", "Take program, user, … from an OCI image layout.", _PROGRAM)
    ] = "",
    arg: Annotated[Texts, _texts("--arg", "WORD", "One word of the program's command line.", _PROGRAM)] = None,
    _: Annotated[
        bool, typer.Option("--args", help="The command line follows: --args -- CMD…", rich_help_panel=_PROGRAM)
    ] = False,
    init: Annotated[
        bool | None,
        typer.Option(
            "--init/--no-init",
            help="A first process that reaps orphans and passes signals on (of ctk's own; other runtimes ignore it).",
            rich_help_panel=_PROGRAM,
            show_default=False,
        ),
    ] = None,
    env: Annotated[Texts, _texts("--env", "NAME[=VALUE]", "Set a variable.", _PROGRAM, "-e")] = None,
    env_file: Annotated[Texts, _texts("--env-file", "FILE", "Set the variables in a file.", _PROGRAM)] = None,
    cwd: Annotated[str, _texts("--cwd", "DIR", "Folder to start in.", _PROGRAM)] = "",
    user: Annotated[str, _texts("--user", "UID[:GID]", "User to run as.", _PROGRAM, "-u")] = "",
    tty: Annotated[
        bool | None,
        typer.Option(
            "--tty/--no-tty", help="Give the program a terminal?", rich_help_panel=_PROGRAM, show_default=False
        ),
    ] = None,
    privileged: Annotated[
        bool, _texts("--privileged", "", "All capabilities and devices: root in it is root on the host.", _RIGHTS)
    ] = False,
    security_opt: Annotated[
        Texts, _texts("--security-opt", "OPTION", "no-new-privileges, seccomp=default|FILE, apparmor=…", _RIGHTS)
    ] = None,
    seccomp: Annotated[
        str,
        _texts("--seccomp", "default|FILE|…", "System calls it may use: ctk's list, a file's, unconfined.", _RIGHTS),
    ] = "",
    device: Annotated[Texts, _texts("--device", "HOST[:CONTAINER[:rwm]]", "Give it a device.", _RIGHTS)] = None,
    cap_add: Annotated[Texts, _texts("--cap-add", "NAME", "Add a capability, or ALL.", _RIGHTS)] = None,
    cap_drop: Annotated[Texts, _texts("--cap-drop", "NAME", "Drop a capability, or ALL.", _RIGHTS)] = None,
    no_new_privileges: Annotated[
        bool | None,
        typer.Option(
            "--no-new-privileges/--new-privileges",
            help="Do setuid programs get their rights?",
            rich_help_panel=_RIGHTS,
            show_default=False,
        ),
    ] = None,
    ulimit: Annotated[
        Texts, _texts("--ulimit", "TYPE=SOFT[:HARD]", "Set a resource limit of the process.", _PROGRAM)
    ] = None,
    rootless: Annotated[bool, _texts("--rootless", "", "For a container made without root.", _HOST)] = False,
    hostname: Annotated[str, _texts("--hostname", "NAME", "The container's host name.", _HOST)] = "",
    share_net: Annotated[
        bool, typer.Option("--share-net", help="Use the host's network, resolv.conf and hosts.", rich_help_panel=_HOST)
    ] = False,
    namespace: Annotated[
        Texts, _texts("--namespace", "TYPE[=host|=/PATH]", "A new namespace, the host's or that one.", _HOST)
    ] = None,
    userns: Annotated[
        bool,
        _texts("--userns", "", "Add a user namespace with your own id as root, and your subordinate ids.", _HOST),
    ] = False,
    uid_map: Annotated[
        Texts, _texts("--uid-map", "CONTAINER:HOST:SIZE", "Map user ids; adds a user namespace.", _HOST)
    ] = None,
    gid_map: Annotated[Texts, _texts("--gid-map", "CONTAINER:HOST:SIZE", "Map group ids.", _HOST)] = None,
    sysctl: Annotated[
        Texts, _texts("--sysctl", "NAME=VALUE", "Set a kernel parameter of its namespaces.", _HOST)
    ] = None,
    memory: Annotated[str, _texts("--memory", "SIZE", "Memory: 64M, 1.5G.", _LIMITS, "-m")] = "",
    memory_swap: Annotated[
        str, _texts("--memory-swap", "SIZE", "Memory and swap together; -1: no limit.", _LIMITS)
    ] = "",
    memory_reservation: Annotated[
        str, _texts("--memory-reservation", "SIZE", "Memory it should get by with.", _LIMITS)
    ] = "",
    cpus: Annotated[str, _texts("--cpus", "N", "CPUs' worth of time: 0.5, 2.", _LIMITS)] = "",
    cpu_shares: Annotated[
        str, _texts("--cpu-shares", "WEIGHT", "Share under load; all others have 1024.", _LIMITS)
    ] = "",
    cpuset: Annotated[str, _texts("--cpuset-cpus", "LIST", "Which CPUs: 0-3,7.", _LIMITS, "--cpuset")] = "",
    cpuset_mems: Annotated[str, _texts("--cpuset-mems", "LIST", "Which memory nodes.", _LIMITS)] = "",
    pids_limit: Annotated[str, _texts("--pids-limit", "N", "Processes and threads.", _LIMITS)] = "",
    blkio_weight: Annotated[
        str, _texts("--blkio-weight", "WEIGHT", "Share of the disks' time, 10 to 1000.", _LIMITS)
    ] = "",
    device_read_bps: Annotated[
        Texts, _texts("--device-read-bps", "DEVICE:RATE", "Bytes a second read from a disk: /dev/sda:10M.", _LIMITS)
    ] = None,
    device_write_bps: Annotated[
        Texts, _texts("--device-write-bps", "DEVICE:RATE", "Bytes a second written to it.", _LIMITS)
    ] = None,
    device_read_iops: Annotated[Texts, _texts("--device-read-iops", "DEVICE:N", "Reads a second.", _LIMITS)] = None,
    device_write_iops: Annotated[Texts, _texts("--device-write-iops", "DEVICE:N", "Writes a second.", _LIMITS)] = None,
    hook: Annotated[Texts, _texts("--hook", "NAME=/PATH[,ARG…]", "Run a program of the host at a hook.", _ANY)] = None,
    annotation: Annotated[Texts, _texts("--annotation", "NAME=VALUE", "Add an annotation.", _ANY, "--label")] = None,
    set_: Annotated[Texts, _texts("--set", "PATH=VALUE", "Set any field: linux.resources.pids.limit=50.", _ANY)] = None,
    unset: Annotated[Texts, _texts("--unset", "PATH", "Take any field away.", _ANY)] = None,
    bundle: Annotated[str, _texts("--bundle", "DIR", "Write config.json here.", _ANY, "-b")] = ".",
    update: Annotated[
        bool, typer.Option("--update", help="Change the config.json that is there.", rich_help_panel=_ANY)
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change; write nothing.", rich_help_panel=_ANY)
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the config.json that is there.", rich_help_panel=_ANY)
    ] = False,
) -> None:
    """Write config.json, which describes the container.

    Without options it is the file that runc spec writes.
    """
    from toolkit.bundle import build
    from toolkit.cli.output import progress

    request = build.SpecRequest(
        bundle=bundle,
        rootless=rootless,
        force=force,
        update=update,
        rootfs=rootfs,
        writable=writable,
        share_net=share_net,
        args=tuple(arg or ()) + tuple(command or ()),
        env=tuple(env or ()),
        env_file=tuple(env_file or ()),
        cwd=cwd,
        user=user,
        hostname=hostname,
        terminal=tty,
        no_new_privileges=no_new_privileges,
        privileged=privileged,
        security_opt=tuple(security_opt or ()),
        device=tuple(device or ()),
        hook=tuple(hook or ()),
        cap_add=tuple(cap_add or ()),
        cap_drop=tuple(cap_drop or ()),
        ulimit=tuple(ulimit or ()),
        mount=tuple(mount or ()),
        volume=tuple(volume or ()),
        tmpfs=tuple(tmpfs or ()),
        memory=memory,
        memory_swap=memory_swap,
        memory_reservation=memory_reservation,
        cpus=cpus,
        cpu_shares=cpu_shares,
        cpuset=cpuset,
        pids_limit=pids_limit,
        cpuset_mems=cpuset_mems,
        blkio_weight=blkio_weight,
        device_limits=tuple(
            (kind, text)
            for kind, texts in (
                ("read-bps", device_read_bps),
                ("write-bps", device_write_bps),
                ("read-iops", device_read_iops),
                ("write-iops", device_write_iops),
            )
            for text in texts or ()
        ),
        seccomp=seccomp,
        init=init,
        from_image=from_image,
        sysctl=tuple(sysctl or ()),
        annotation=tuple(annotation or ()),
        namespace=tuple(namespace or ()),
        userns=userns,
        uid_map=tuple(uid_map or ()),
        gid_map=tuple(gid_map or ()),
        set=tuple(set_ or ()),
        unset=tuple(unset or ()),
    )
    if diff:
        if text := build.diff(request):
            output.out(text + "\n")
        return
    with progress(json=False) as emit:
        build.build(request, emit)
