"""The command line of the runtime verbs as one table, used by the parser in argv.py and for every help text.

Names, short names and defaults are those of runc 1.4; `--config`, `--cgroup-manager` and
`delete --regex` are crun's.

An option is (name, short, kind, default, metavar, help). Kinds: flag (bool), value (str), int, list (of str), ints
(list of int), duration (seconds, written as Go's "1m30s").
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Option = tuple[str, str, str, Any, str, str]
    # (summary, arguments, fewest, most (-1: any), options may follow the id, options)
    Verb = tuple[str, str, int, int, bool, tuple[Option, ...]]

GLOBAL: "tuple[Option, ...]" = (
    ("debug", "", "flag", False, "", "log each step (level debug)"),
    ("log", "", "value", "", "FILE", "append log lines to FILE instead of standard error"),
    ("log-format", "", "value", "text", "FORMAT", "format of the log lines: 'text' or 'json'"),
    ("root", "", "value", "", "DIR", "folder of the container records, on a tmpfs (default: /run/ctk)"),
    ("criu", "", "value", "criu", "FILE", "the criu program for checkpoint and restore"),
    (
        "systemd-cgroup", "", "flag", False, "",
        "make cgroups through systemd; cgroupsPath is then 'slice:prefix:name'",
    ),
    (
        "cgroup-manager", "", "value", "", "NAME",
        "how cgroups are made: 'cgroupfs' (default), 'systemd' or 'disabled'",
    ),
    ("rootless", "", "value", "auto", "MODE", "ignore cgroups that we may not make: 'true', 'false' or 'auto'"),
)  # fmt: skip

_BUNDLE = (
    "bundle",
    "b",
    "value",
    "",
    "DIR",
    "path to the root of the bundle directory, defaults to the current directory",
)
_CONSOLE = (
    "console-socket", "", "value", "", "SOCKET",
    "Unix socket to send the descriptor of the terminal's master to",
)  # fmt: skip
_PIDFD = (
    "pidfd-socket", "", "value", "", "SOCKET",
    "Unix socket to send a pidfd of the new process to",
)  # fmt: skip
_PID_FILE = ("pid-file", "", "value", "", "FILE", "write the process's id, as the host sees it, to FILE")
_DETACH = ("detach", "d", "flag", False, "", "return as soon as the process runs")
_NO_SUBREAPER = (
    "no-subreaper", "", "flag", False, "",
    "do not adopt orphans of the container's processes",
)  # fmt: skip
_NO_PIVOT = (
    "no-pivot", "", "flag", False, "",
    "enter the root with chroot instead of pivot_root (for a root on a ramdisk)",
)  # fmt: skip
_PRESERVE = (
    "preserve-fds", "", "int", 0, "N",
    "keep N more descriptors open, after the standard ones and $LISTEN_FDS",
)  # fmt: skip
_CREATE = (
    _BUNDLE,
    ("config", "", "value", "", "FILE", "read this file instead of the bundle's config.json"),
    _CONSOLE,
    _PIDFD,
    _PID_FILE,
    _NO_PIVOT,
    ("no-new-keyring", "", "flag", False, "", "keep the caller's session keyring"),
    _PRESERVE,
)
_FORMAT = ("format", "f", "value", "table", "FORMAT", "'table' or 'json'")
_CRIU = (
    ("image-path", "", "value", "", "DIR", "folder of criu's image files"),
    ("work-path", "", "value", "", "DIR", "folder of criu's work files and logs"),
    ("tcp-established", "", "flag", False, "", "accept open TCP connections"),
    ("ext-unix-sk", "", "flag", False, "", "accept Unix sockets to the outside"),
    ("shell-job", "", "flag", False, "", "accept processes of a shell job"),
    ("lazy-pages", "", "flag", False, "", "load memory pages when they are first used (userfaultfd)"),
    ("file-locks", "", "flag", False, "", "save and restore file locks"),
    ("manage-cgroups-mode", "", "value", "", "MODE", "how criu treats cgroups: soft, full, strict or ignore"),
    ("empty-ns", "", "list", (), "NAMESPACE", "make this namespace but leave it empty"),
    ("auto-dedup", "", "flag", False, "", "let criu drop duplicate memory pages"),
)
_ID = "<container-id>"

# As of `ctk pull`, `ctk up` and `ctk build` (cli/images/options.py).
_IMAGE: "tuple[Option, ...]" = (
    ("platform", "", "value", "", "OS/ARCH[/VARIANT]", "with --image, its platform, defaults to this one"),
    ("pull", "", "value", "missing", "missing|always|never",
     "with --image, when to ask the registry; missing: if the store does not have it"),
    ("plain-http", "", "list", (), "HOST[:PORT]", "with --image, this registry speaks http, not https"),
    ("lock-file", "", "value", "", "FILE",
     "with --image, take the digest that this file has for the name, defaults to ctk.lock here, if there is one"),
    ("update-lock", "", "flag", False, "",
     "with --image, ask the registry, and write the digest into the lock file"),
    ("policy", "", "value", "", "FILE",
     "with --image, check signatures by this policy.json, defaults to ctk's own, if there is one"),
    ("squash-ids", "", "flag", False, "",
     "with --image, files with an owner outside your ids become yours, with a note"),
    ("devices", "", "flag", False, "", "with --image, make its device nodes, as root"),
)  # fmt: skip

OF_IMAGE = frozenset(option[0] for option in _IMAGE)
"""The names of the options of `run` that say how --image is brought."""

# For interactive use: no other runtime has these, and a call without them does not load their code.
_COMFORT: "tuple[Option, ...]" = (
    ("rm", "", "flag", False, "", "remove the container when it has ended, also a detached one"),
    ("replace", "", "flag", False, "", "first remove any container with this id, running or not"),
    ("hold", "", "flag", False, "", "with --detach, keep its output (`ctk logs`) and its terminal (`ctk attach`); "
     "the default if they would otherwise be your terminal"),
    ("interactive", "i", "flag", False, "", "with --detach, keep its standard input open for `ctk attach`"),
    ("ephemeral", "", "flag", False, "", "keep changes in memory, not in the rootfs; they end with the container"),
    ("overlay", "", "value", "", "DIR", "write changes to DIR, not to the rootfs; the next run continues with them"),
    ("lower", "", "list", (), "DIR",
     "make the root from these folders, the topmost first, with --overlay or --ephemeral on top"),
    ("image", "", "value", "", "IMAGE",
     "make the bundle from this image (`ctk pull`); changes stay with it until `ctk rm`"),
    *_IMAGE,
    ("net", "", "value", "", "NETWORK",
     "none, host, bridge, a network (`ctk network`) with :ip=ADDRESS,mac=ADDRESS, container:ID or ns:PATH; "
     "defaults to the bundle's"),
    ("publish", "p", "list", (), "[IP:]PORT:PORT[/udp]",
     "a port of the host leads to one of the container, on a network; on 127.0.0.1 if IP does not say otherwise"),
    ("init", "", "flag", False, "", "run a small init that reaps orphans and passes signals on"),
    ("tell", "", "flag", False, "", "print on standard error why it ended; the default on a terminal"),
)  # fmt: skip

OURS = frozenset(option[0] for option in _COMFORT)
"""The names of the options of `run` that only ctk has."""

VERBS: "dict[str, Verb]" = {
    "checkpoint": (
        "save a running container to files", _ID, 1, 1, True,
        (
            *_CRIU,
            ("parent-path", "", "value", "", "DIR", "folder of the image files of an earlier pre-dump"),
            ("leave-running", "", "flag", False, "", "let the container run on afterwards"),
            ("tcp-skip-in-flight", "", "flag", False, "", "leave out TCP connections not yet accepted"),
            ("link-remap", "", "flag", False, "", "give deleted open files a name where possible"),
            ("status-fd", "", "int", -1, "FD", "descriptor that gets a NUL byte when the page server is ready"),
            ("page-server", "", "value", "", "ADDRESS:PORT", "where criu's page server listens"),
            (
                "pre-dump", "", "flag", False, "",
                "save only memory, and let the container run on",
            ),
        ),
    ),
    "create": ("make a container and stop just before its program", _ID, 1, 1, True, _CREATE),
    "delete": (
        "delete a container and its resources", _ID, 1, 1, True,
        (
            ("force", "f", "flag", False, "", "kill it first; no error if it does not exist"),
            ("regex", "", "flag", False, "", "the id is a regular expression: remove all containers that match"),
        ),
    ),
    "events": (
        "report use of cpu, memory and disks, and out-of-memory kills", _ID, 1, 1, True,
        (
            ("interval", "", "duration", 5.0, "DURATION", "time between two reports"),
            ("stats", "", "flag", False, "", "report once"),
        ),
    ),
    "exec": (
        "run one more process in a container",
        "<container-id> <command> [command options]  || -p process.json <container-id>", 1, -1, False,
        (
            _CONSOLE,
            _PIDFD,
            ("cwd", "", "value", "", "DIR", "working folder, in the container"),
            ("env", "e", "list", (), "NAME=VALUE", "set a variable of the environment"),
            ("tty", "t", "flag", False, "", "give the process a terminal"),
            ("user", "u", "value", "", "UID[:GID]", "run as this numeric user and group"),
            ("additional-gids", "g", "ints", (), "GID", "supplementary group"),
            ("process", "p", "value", "", "FILE", "take the process object of config.json from FILE"),
            _DETACH,
            _PID_FILE,
            ("process-label", "", "value", "", "LABEL", "SELinux label of the process"),
            ("apparmor", "", "value", "", "PROFILE", "AppArmor profile of the process"),
            ("no-new-privs", "", "flag", False, "", "forbid gaining privileges by execve"),
            ("cap", "c", "list", (), "NAME", "add a capability"),
            _PRESERVE,
            ("cgroup", "", "list", (), "[CTRL:]PATH", "start the process in this sub-cgroup, which must exist"),
            ("ignore-paused", "", "flag", False, "", "accept a paused container"),
        ),
    ),
    "features": ("print the supported features, as JSON", "", 0, 0, True, ()),
    "kill": (
        "send a signal to a container (default: SIGTERM)",
        "<container-id> [signal]", 1, 2, True,
        (("all", "a", "flag", False, "", "send it to every process of the container"),),
    ),
    "list": (
        "list the containers below --root", "", 0, 0, True,
        (_FORMAT, ("quiet", "q", "flag", False, "", "print only the ids")),
    ),
    "pause": ("freeze all processes of a container", _ID, 1, 1, True, ()),
    "ps": (
        "list the processes of a container", "<container-id> [ps options]", 1, -1, False,
        (_FORMAT,),
    ),
    "restore": (
        "bring a saved container back", _ID, 1, 1, True,
        (
            _CONSOLE,
            *_CRIU,
            _BUNDLE,
            _DETACH,
            _PID_FILE,
            _NO_SUBREAPER,
            _NO_PIVOT,
            ("config", "", "value", "", "FILE", "read this file instead of the bundle's config.json"),
            ("lsm-profile", "", "value", "", "TYPE:NAME", "security profile for the restored processes"),
            ("lsm-mount-context", "", "value", "", "CONTEXT", "security context for the restored mounts"),
        ),
    ),
    "resume": ("thaw a paused container", _ID, 1, 1, True, ()),
    "run": (
        "make a container and run its program", _ID, 1, 1, True,
        (
            *_CREATE,
            _DETACH,
            ("keep", "", "flag", False, "", "keep the container's record after its end"),
            ("explain", "", "flag", False, "", "explain each step that would be done, and do nothing"),
            _NO_SUBREAPER,
            *_COMFORT,
        ),
    ),
    "spec": (
        "write a config.json to start from", "", 0, 0, True,
        (
            ("bundle", "b", "value", "", "DIR", "folder to write it to (default: the current one)"),
            ("rootless", "", "flag", False, "", "for a container without root privileges"),
        ),
    ),
    "start": ("run the program of a created container", _ID, 1, 1, True, ()),
    "state": ("print the state of a container, as JSON", _ID, 1, 1, True, ()),
    "update": (
        "change the limits of a container", _ID, 1, 1, True,
        (
            (
                "resources", "r", "value", "", "FILE",
                "take a resources object from FILE, '-' for standard input; other options are then ignored",
            ),
            ("blkio-weight", "", "int", 0, "WEIGHT", "share of disk time, 10 to 1000"),
            ("cpu-period", "", "value", "", "USECS", "period of the cpu limit, in microseconds"),
            ("cpu-quota", "", "value", "", "USECS", "cpu time per period, in microseconds"),
            ("cpu-burst", "", "value", "", "USECS", "cpu time that may be saved up, in microseconds"),
            ("cpu-share", "", "value", "", "SHARES", "share of cpu time when it is scarce"),
            ("cpu-rt-period", "", "value", "", "USECS", "realtime period, in microseconds"),
            ("cpu-rt-runtime", "", "value", "", "USECS", "realtime cpu time per period, in microseconds"),
            ("cpuset-cpus", "", "value", "", "CPUS", "cpus to run on (0-2,5)"),
            ("cpuset-mems", "", "value", "", "NODES", "memory nodes to use"),
            ("kernel-memory", "", "value", "", "BYTES", "no longer known to the kernel: ignored"),
            ("kernel-memory-tcp", "", "value", "", "BYTES", "no longer known to the kernel: ignored"),
            ("memory", "", "value", "", "BYTES", "memory limit, in bytes or as 512m"),
            ("cpu-idle", "", "value", "", "0|1", "1: run only when the cpu is idle"),
            ("memory-reservation", "", "value", "", "BYTES", "soft memory limit (reservation)"),
            ("memory-swap", "", "value", "", "BYTES", "limit of memory and swap together; -1: no limit"),
            ("pids-limit", "", "int", 0, "N", "limit of the number of tasks; -1: no limit"),
            ("l3-cache-schema", "", "value", "", "SCHEMA", "schema of Intel's cache allocation"),
            ("mem-bw-schema", "", "value", "", "SCHEMA", "schema of Intel's memory bandwidth allocation"),
        ),
    ),
}  # fmt: skip


class Options:
    """The options of one call as attributes, `-` written `_`: the global ones, the verb's own, `verb`, `id`, `args`.

    `args` are the words after the id; `given` has the names (as in the table) of the options on the command line.
    A verb's own option hides a global one of the same name (`spec --rootless`).
    """

    if TYPE_CHECKING:
        verb: str
        program: str
        id: str
        args: list[str]
        given: set[str]
        debug: bool
        log: str
        log_format: str
        root: str
        criu: str
        systemd_cgroup: bool
        cgroup_manager: str
        rootless: str
        bundle: str
        config: str
        console_socket: str
        pidfd_socket: str
        pid_file: str
        detach: bool
        no_subreaper: bool
        no_pivot: bool
        no_new_keyring: bool
        preserve_fds: int
        keep: bool
        rm: bool
        replace: bool
        hold: bool
        interactive: bool
        ephemeral: bool
        overlay: str
        lower: list[str]
        image: str
        platform: str
        pull: str
        plain_http: list[str]
        lock_file: str
        update_lock: bool
        policy: str
        squash_ids: bool
        devices: bool
        net: str
        publish: list[str]
        init: bool
        tell: bool
        explain: bool
        format: str
        quiet: bool
        force: bool
        regex: bool
        all: bool
        interval: float
        stats: bool
        cwd: str
        env: list[str]
        tty: bool
        user: str
        additional_gids: list[int]
        process: str
        process_label: str
        apparmor: str
        no_new_privs: bool
        cap: list[str]
        cgroup: list[str]
        ignore_paused: bool
        resources: str

    def __init__(self) -> None:
        self.verb = ""
        self.program = "ctk"
        self.id = ""
        self.args = []
        self.given = set()
        self.take(GLOBAL)

    def take(self, table: "tuple[Option, ...]") -> None:
        """Set every option of a table to its default."""
        values = self.__dict__
        for name, _short, kind, default, _metavar, _help in table:
            values[name.replace("-", "_")] = list(default) if kind in ("list", "ints") else default

    def value(self, name: str) -> "Any":
        """The value of an option by its name in the table."""
        return self.__dict__[name.replace("-", "_")]
