"""The options that describe a container: one table for `ctk spec` and `ctk up`."""

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, NamedTuple

from toolkit.cli import declare


class Word(NamedTuple):
    """One option. `field` is its name in SpecRequest; `names` are typer's, separated by spaces."""

    field: str
    names: str
    kind: Literal["text", "texts", "flag", "choice"]  # a choice also has a name for "no", and may be left unset
    metavar: str
    help: str
    panel: str


_ROOT, _PROGRAM, _RIGHTS, _HOST = "Root and mounts", "Program", "Rights", "Namespaces"
_LIMITS, _ANY = "Limits", "Any field, and the file"

WORDS = (
    Word("rootfs", "--rootfs", "text", "DIR", "The root file system; it is checked.", _ROOT),
    Word(
        "writable",
        "--writable/--read-only",
        "choice",
        "",
        "Make the root writable or read-only. --writable also adds the capabilities that installing packages needs.",
        _ROOT,
    ),
    Word("mount", "--mount", "texts", "type=…,src=…,dst=…", "Add a mount.", _ROOT),
    Word("volume", "--volume -v", "texts", "SRC:DST[:ro]", "Add a bind mount.", _ROOT),
    Word("tmpfs", "--tmpfs", "texts", "DST[:OPTIONS]", "Add a tmpfs.", _ROOT),
    Word(
        "from_image", "--from-image", "text", "DIR[:TAG]", "Read program, user, … from an OCI image layout.", _PROGRAM
    ),
    Word(
        "init",
        "--init/--no-init",
        "choice",
        "",
        "Run a small init that reaps orphans and passes signals on (ctk only; other runtimes ignore it).",
        _PROGRAM,
    ),
    Word("env", "--env -e", "texts", "NAME[=VALUE]", "Set a variable.", _PROGRAM),
    Word("env_file", "--env-file", "texts", "FILE", "Set the variables listed in a file.", _PROGRAM),
    Word("cwd", "--cwd", "text", "DIR", "Folder to start in.", _PROGRAM),
    Word("user", "--user -u", "text", "UID[:GID]", "User to run as.", _PROGRAM),
    Word("terminal", "--tty/--no-tty", "choice", "", "Give the program a terminal, or not.", _PROGRAM),
    Word(
        "privileged",
        "--privileged",
        "flag",
        "",
        "All capabilities and devices: root in the container is root on the host.",
        _RIGHTS,
    ),
    Word(
        "security_opt",
        "--security-opt",
        "texts",
        "OPTION",
        "no-new-privileges, seccomp=default|FILE, apparmor=…",
        _RIGHTS,
    ),
    Word(
        "seccomp",
        "--seccomp",
        "text",
        "default|FILE|…",
        "System calls it may use: ctk's default list, a profile in FILE, or unconfined.",
        _RIGHTS,
    ),
    Word("device", "--device", "texts", "HOST[:CONTAINER[:rwm]]", "Give it a device.", _RIGHTS),
    Word("cap_add", "--cap-add", "texts", "NAME", "Add a capability, or ALL.", _RIGHTS),
    Word("cap_drop", "--cap-drop", "texts", "NAME", "Drop a capability, or ALL.", _RIGHTS),
    Word(
        "no_new_privileges",
        "--no-new-privileges/--new-privileges",
        "choice",
        "",
        "Stop setuid programs from gaining privileges, or let them.",
        _RIGHTS,
    ),
    Word("ulimit", "--ulimit", "texts", "TYPE=SOFT[:HARD]", "Set a resource limit of the process.", _PROGRAM),
    Word("rootless", "--rootless", "flag", "", "For a container made without root.", _HOST),
    Word("hostname", "--hostname", "text", "NAME", "The container's host name.", _HOST),
    Word("share_net", "--share-net", "flag", "", "Use the host's network, resolv.conf and hosts.", _HOST),
    Word(
        "namespace",
        "--namespace",
        "texts",
        "TYPE[=host|=/PATH]",
        "Make a new namespace, use the host's, or join one.",
        _HOST,
    ),
    Word(
        "userns",
        "--userns",
        "flag",
        "",
        "Add a user namespace that maps your own id to root, and your subordinate ids.",
        _HOST,
    ),
    Word("uid_map", "--uid-map", "texts", "CONTAINER:HOST:SIZE", "Map user ids; adds a user namespace.", _HOST),
    Word("gid_map", "--gid-map", "texts", "CONTAINER:HOST:SIZE", "Map group ids.", _HOST),
    Word("sysctl", "--sysctl", "texts", "NAME=VALUE", "Set a kernel parameter of the container's namespaces.", _HOST),
    Word("memory", "--memory -m", "text", "SIZE", "Memory limit: 64M, 1.5G.", _LIMITS),
    Word("memory_swap", "--memory-swap", "text", "SIZE", "Limit of memory and swap together; -1: no limit.", _LIMITS),
    Word("memory_reservation", "--memory-reservation", "text", "SIZE", "Soft limit of memory.", _LIMITS),
    Word("cpus", "--cpus", "text", "N", "CPU time, in CPUs: 0.5, 2.", _LIMITS),
    Word("cpu_shares", "--cpu-shares", "text", "WEIGHT", "Share of a busy CPU; the default is 1024.", _LIMITS),
    Word("cpuset", "--cpuset-cpus --cpuset", "text", "LIST", "CPUs it may run on: 0-3,7.", _LIMITS),
    Word("cpuset_mems", "--cpuset-mems", "text", "LIST", "Memory nodes it may use.", _LIMITS),
    Word("pids_limit", "--pids-limit", "text", "N", "Most processes and threads at a time.", _LIMITS),
    Word("blkio_weight", "--blkio-weight", "text", "WEIGHT", "Share of the disks' time, 10 to 1000.", _LIMITS),
    Word(
        "device_read_bps",
        "--device-read-bps",
        "texts",
        "DEVICE:RATE",
        "Most bytes per second read from a disk: /dev/sda:10M.",
        _LIMITS,
    ),
    Word("device_write_bps", "--device-write-bps", "texts", "DEVICE:RATE", "Most bytes per second written.", _LIMITS),
    Word("device_read_iops", "--device-read-iops", "texts", "DEVICE:N", "Most reads per second.", _LIMITS),
    Word("device_write_iops", "--device-write-iops", "texts", "DEVICE:N", "Most writes per second.", _LIMITS),
    Word("hook", "--hook", "texts", "NAME=/PATH[,ARG…]", "Run a program of the host as hook NAME.", _ANY),
    Word("annotation", "--annotation --label", "texts", "NAME=VALUE", "Add an annotation.", _ANY),
    Word("set", "--set", "texts", "PATH=VALUE", "Set any field: linux.resources.pids.limit=50.", _ANY),
    Word("unset", "--unset", "texts", "PATH", "Remove any field.", _ANY),
)

_TYPES: dict[str, tuple[object, object]] = {
    "text": (str, ""),
    "texts": (list[str] | None, None),
    "flag": (bool, False),
    "choice": (bool | None, None),
}
_DEVICE = "device_"  # --device-read-bps and its like are one field of SpecRequest


def taking(function: Callable[..., None], *, without: Collection[str] = (), first: bool = False) -> Callable[..., None]:
    """`function` with the table's options, except those in `without`, in place of its **words: typer reads this one.

    `first` puts them before its own options. It is called with the fields of SpecRequest (`fields`).
    """
    own = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    words = [_parameter(word) for word in WORDS if word.field not in without]
    arguments = [one for one in own if _is_argument(one)]
    options = [one.replace(kind=one.KEYWORD_ONLY) for one in own if not _is_argument(one)]

    def joined(**given: Any) -> None:
        function(**{one.name: given.pop(one.name) for one in own}, **fields(given))

    every = [*arguments, *(words + options if first else options + words)]
    joined.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    joined.__annotations__ = {one.name: one.annotation for one in every}
    joined.__doc__, joined.__name__ = function.__doc__, function.__name__
    return joined


def fields(given: dict[str, Any]) -> dict[str, Any]:
    """The options' values as fields of SpecRequest."""
    found: dict[str, Any] = {}
    limits: list[tuple[str, str]] = []
    for field, value in given.items():
        if field.startswith(_DEVICE):
            limits += [(field.removeprefix(_DEVICE).replace("_", "-"), text) for text in value or ()]
        else:
            found[field] = tuple(value or ()) if _KINDS[field] == "texts" else value
    return found | {"device_limits": tuple(limits)}


_KINDS = {word.field: word.kind for word in WORDS}


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(one, declare.Argument) for one in getattr(parameter.annotation, "__metadata__", ()))


def _parameter(word: Word) -> inspect.Parameter:
    kind, default = _TYPES[word.kind]
    option = declare.Option(
        *word.names.split(),
        metavar=word.metavar or None,
        help=word.help,
        rich_help_panel=word.panel,
        show_default=False,
    )
    annotation = Annotated[kind, option]  # type: ignore[valid-type]
    return inspect.Parameter(word.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
