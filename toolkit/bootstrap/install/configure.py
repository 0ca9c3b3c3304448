"""Configure an unpacked tree: maintainer scripts and `dpkg --configure` in debootstrap's order.

The order matters: it determines the uids of the users that packages create, and a single `dpkg --configure -a` gives
other ones. The steps:

1. run the core packages' preinsts, configure base-passwd and base-files (which make the users and folders of the rest);
2. run the preinsts of the other required packages, then configure all of them;
3. the base set: for each package that `dpkg --predep-package` names, unpack and configure it with its dependencies;
   then unpack and configure the rest.

debootstrap unpacks each package a second time in each of these steps. Here the files of the required packages are in
the tree from the start, those of the base set are moved in when it is their turn (base_set.py), and "unpacked" means
registered in dpkg's database (database.py), which is what dpkg looks at.
"""

import contextlib
import os
from collections.abc import Callable, Iterable

from toolkit import places
from toolkit.bootstrap.facts.model import Lock, Package
from toolkit.bootstrap.install import owners
from toolkit.bootstrap.install.base_set import BaseSet
from toolkit.bootstrap.install.by_dpkg import ByDpkg, OpenDeb
from toolkit.bootstrap.install.core import core
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.unpack import Unpacked
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.deb.control import write
from toolkit.errors import BuildFailed, NotFound
from toolkit.events import Emit, Line, Progressed
from toolkit.kernel import ours
from toolkit.kernel.beneath import make_directories

STAGE = "configure"

_STATUS = ("--status-fd", "3")
# No service may start in a tree that is being built. As in debootstrap, policy-rc.d exits with 101 ("action
# forbidden"), and start-stop-daemon does nothing.
_NO_START = b"#!/bin/sh\nexit 101\n"
_FAKE_DAEMON_STARTER = b"""#!/bin/sh
echo
echo "Warning: Fake start-stop-daemon called, doing nothing"
"""
# dpkg-maintscript-helper renames and removes what older versions of a package left. On a first installation it only
# finds out that there is none, with 280 processes in a minbase (0.2 to 0.3 s of 1.6). Without it the tree is the same
# (scripts/compare-tree).
_NOTHING_TO_MIGRATE = b"#!/bin/sh\nexit 0\n"
# ischroot(1) looks at the root of process 1, which a script may not do here (sandbox_init), and then answers "unknown".
# libc6's postinst took that for a running system: it told an init that does not exist to re-execute, and slept for a
# second.
_IN_A_CHROOT = b"#!/bin/sh\nexit 0\n"


def configure(
    target: str,
    rootfd: int,
    lock: Lock,
    unpacked: list[Unpacked],
    emit: Emit,
    log_path: str,
    *,
    open_deb: OpenDeb,
    emulate: bytes = b"",
    between: Callable[[], None] = lambda: None,
) -> None:
    """Run the maintainer scripts of the tree at `target` (opened as `rootfd`) inside it, isolated from the host.

    Their output goes to `log_path` and is emitted as Lines. `open_deb` returns a descriptor of a package's .deb, which
    is closed here. `between` is called once the required packages are configured, before the others are unpacked.
    `emulate` is that of Sandbox. No process outlives the call. Raises BuildFailed if a script fails, HostLacks if the
    namespaces can't be made.
    """
    progress = _Progress(emit, len(unpacked))
    with Sandbox(target, log_path, progress.line, progress.status, emulate=emulate, rootfd=rootfd) as sandbox:
        Configuration(rootfd, lock, unpacked, sandbox, emit, open_deb, between).run()


def log_path(target: str) -> str:
    """The path of the log of what the programs of a build of `target` print."""
    folder = os.path.join(places.cache_dir(), "logs")
    ours.make_private(folder)
    return os.path.join(
        folder, f"bootstrap-{os.fsdecode(os.fsencode(os.path.basename(target))[:64])}-{os.getpid()}.log"
    )


class _Progress:
    """dpkg's status lines (dpkg(1), --status-fd) as events."""

    def __init__(self, emit: Emit, total: int) -> None:
        self._emit = emit
        self._total = total
        self._installed: set[str] = set()

    def line(self, text: str) -> None:
        self._emit(Line(STAGE, text))

    def status(self, text: str) -> None:
        words = [word.strip() for word in text.split(":")]
        if words[0] == "processing" and len(words) > 2 and words[1] == "configure":
            self._tell(words[2])
        elif words[0] == "status" and words[-1] == "installed" and len(words) > 2 and words[1] not in self._installed:
            self._installed.add(words[1])
            self._tell(words[1])

    def _tell(self, package: str) -> None:
        self._emit(Progressed(STAGE, min(len(self._installed), self._total), self._total, "packages", package))


class Configuration:
    """One run of `configure`, in an open sandbox."""

    def __init__(
        self,
        rootfd: int,
        lock: Lock,
        unpacked: list[Unpacked],
        sandbox: Sandbox,
        emit: Emit,
        open_deb: OpenDeb,
        between: Callable[[], None],
    ) -> None:
        self._between = between
        self._rootfd = rootfd
        self._lock = lock
        self._unpacked = {lock.key(one.package): one for one in unpacked}
        self._sandbox = sandbox
        self._database = Database(rootfd)
        self._by_dpkg = ByDpkg(rootfd, sandbox, emit, dpkg=self._dpkg, open_deb=open_deb)
        self._version = next((p.version for p in lock.packages if p.name == "dpkg"), "")

    def run(self) -> None:
        if not self._version:
            raise NotFound(
                "configure the tree",
                because="the package 'dpkg' is not among those to install",
                hint="--include dpkg adds it; --variant extract only unpacks",
            )
        self._sandbox.run([self._program("ldconfig", "/sbin")], doing="run ldconfig in the new tree")
        with (
            _Replaced(self._rootfd, "usr/sbin", "policy-rc.d", _NO_START),
            _Replaced(self._rootfd, "sbin", "start-stop-daemon", _FAKE_DAEMON_STARTER),
            _Replaced(self._rootfd, "usr/bin", "dpkg-maintscript-helper", _NOTHING_TO_MIGRATE),
            _Replaced(self._rootfd, "usr/bin", "ischroot", _IN_A_CHROOT),
        ):
            self._required()
            self._select()
            self._between()
            self._base()
        broken = {name: state for name, state in self._database.states().items() if state != "installed"}
        if broken:
            names = ", ".join(f"{name} ({state})" for name, state in sorted(broken.items()))
            raise BuildFailed("configure the packages", because=f"not all are installed: {names}")

    def _required(self) -> None:
        names = [self._lock.key(package) for package in self._lock.required]
        first = core(self._lock)
        awk = _link_awk(self._rootfd)
        for name in first:
            self._preinst(self._unpacked[name])
        users = [name for name in first if name in ("base-passwd", "base-files")]
        self._dpkg("--force-depends", "--configure", *users, doing="configure the core packages")
        if awk:
            # Its postinst makes the alternative. update-alternatives would keep the time of an existing link.
            _unlink_awk(self._rootfd)
            self._dpkg("--force-depends", "--configure", "mawk", doing="configure mawk")
        # The users that base-passwd has just made are known by name from here on.
        owners.settle(self._rootfd, (one for name in names for one in self._unpacked[name].owned))
        for name in names:
            if name in first:
                continue
            if self._unpacked[name].contested:
                self._by_dpkg.unpack([self._unpacked[name]], "--force-depends", "--force-overwrite")
            else:
                self._preinst(self._unpacked[name])
        self._dpkg(
            "--configure",
            "--pending",
            "--force-configure-any",
            "--force-depends",
            doing="configure the required packages",
        )

    def _select(self) -> None:
        """Write dpkg's available file and the selections, as debootstrap does between the two sets."""
        rank = {name: i for i, source in enumerate(self._lock.sources) for name in source.components}
        # In the order of the archive's indexes: by source package, after which the folders of the pool are named.
        paragraphs = sorted(
            self._lock.packages,
            key=lambda p: (p.source, rank.get(p.component, 0), os.path.dirname(p.filename).rpartition("/")[2], p.name),
        )
        self._database.write("available", "".join(write(p.paragraph) + "\n" for p in paragraphs).encode())
        wanted = "".join(f"{self._lock.key(p)} install\n" for p in self._lock.packages)
        self._dpkg("--set-selections", doing="select the packages", stdin=wanted.encode())

    def _base(self) -> None:
        left = {self._lock.key(package): package for package in self._lock.base}
        if not left:
            return
        required = [self._unpacked[self._lock.key(package)] for package in self._lock.required]
        base = BaseSet(
            self._rootfd,
            self._lock,
            required,
            self._by_dpkg,
            self._preinst,
        )
        while left and _asks_for_predependencies(left.values(), left):
            name = self._next_predependency()
            if not name:
                break
            names = sorted(_closure(name, left))
            if not names:
                break  # dpkg asks for a package that was excluded
            self._install(base, names, doing=f"configure the pre-dependency {name!r}")
            for one in names:
                del left[one]
        if left:
            self._install(base, sorted(left), every=True, doing="configure the base system")
        base.finish()

    def _install(self, base: BaseSet, names: list[str], *, doing: str, every: bool = False) -> None:
        base.unpack(self._unpacked[name] for name in names)
        states = {} if every else self._database.states()  # without packages that dpkg has made disappear
        self._dpkg(
            "--force-overwrite",
            "--force-confold",
            "--skip-same-version",
            "--configure",
            *(["-a"] if every else [name for name in names if self._is_there(name, states)]),
            doing=doing,
        )

    def _is_there(self, name: str, states: dict[str, str]) -> bool:
        package = self._unpacked[name].package
        return f"{package.name}:{package.architecture}" in states

    def _next_predependency(self) -> str:
        """The package that `dpkg --predep-package` names as the next to install; "" for none."""
        self._sandbox.run(
            [self._program("dpkg"), "--predep-package"], doing="ask dpkg for pre-dependencies", accept=(0, 1)
        )
        found = dict(line.split(": ", 1) for line in self._sandbox.output() if ": " in line and line[0] != " ")
        name, architecture = found.get("Package", "").strip(), found.get("Architecture", "").strip()
        return name if architecture in ("", "all", self._lock.architecture) else f"{name}:{architecture}"

    def _preinst(self, one: Unpacked) -> None:
        if "preinst" not in one.control:
            return
        self._database.write_control(one)
        self._sandbox.run(
            ["/var/lib/dpkg/tmp.ci/preinst", "install"],
            doing=f"run the preinst script of {one.package.name!r}",
            environment={
                "DPKG_MAINTSCRIPT_NAME": "preinst",
                "DPKG_MAINTSCRIPT_PACKAGE": one.package.name,
                "DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT": "1",
                "DPKG_MAINTSCRIPT_ARCH": one.package.architecture,
                "DPKG_RUNNING_VERSION": self._version,
                "DPKG_ADMINDIR": "/var/lib/dpkg",
                "DPKG_ROOT": "",
            },
        )
        self._database.clear_control()

    def _dpkg(self, *arguments: str, doing: str, stdin: bytes = b"") -> None:
        self._sandbox.run([self._program("dpkg"), *_STATUS, *arguments], doing=doing, stdin=stdin)

    def _program(self, name: str, folder: str = "/usr/bin") -> str:
        return f"{folder}/{name}"


class _Replaced:
    """Replaces a program of the tree by a script while packages are configured."""

    def __init__(self, rootfd: int, folder: str, name: str, text: bytes) -> None:
        self._rootfd = rootfd
        self._folder = folder
        self._name = name
        self._text = text
        self._moved = False

    def __enter__(self) -> None:
        folder = make_directories(self._rootfd, self._folder)
        try:
            if self._is_there(folder):  # left by a second stage that was killed
                os.unlink(self._name, dir_fd=folder)
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._name + ".REAL", self._name, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                os.rename(self._name, self._name + ".REAL", src_dir_fd=folder, dst_dir_fd=folder)
                self._moved = True
            except FileNotFoundError:
                pass
            fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755, dir_fd=folder)
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o755)
                file.write(self._text)
        finally:
            os.close(folder)

    def _is_there(self, folder: int) -> bool:
        try:
            fd = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return False
        with open(fd, "rb") as file:
            return file.read(len(self._text) + 1) == self._text

    def __exit__(self, *_: object) -> None:
        folder = make_directories(self._rootfd, self._folder)
        try:
            if self._moved:
                os.rename(self._name + ".REAL", self._name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.unlink(self._name, dir_fd=folder)
        finally:
            os.close(folder)


def _unlink_awk(rootfd: int) -> None:
    folder = make_directories(rootfd, "usr/bin")
    try:
        os.unlink("awk", dir_fd=folder)
    finally:
        os.close(folder)


def _link_awk(rootfd: int) -> bool:
    """Make the link awk, which base-files needs before mawk is configured. True if it was made."""
    folder = make_directories(rootfd, "usr/bin")
    try:
        os.symlink("mawk", "awk", dir_fd=folder)
        return True
    except FileExistsError:
        return False
    finally:
        os.close(folder)


def _asks_for_predependencies(packages: Iterable[Package], left: dict[str, Package]) -> bool:
    """Whether a Pre-Depends names a package that isn't configured yet. Saves asking dpkg, which takes 20 ms."""
    return any(name in left for package in packages for name in _first_names(package, "Pre-Depends"))


def _closure(name: str, left: dict[str, Package]) -> set[str]:
    """The package and its dependencies in `left`, resolved as in debootstrap: first alternatives, by name."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one in found or one not in left:
            continue
        found.add(one)
        needs = _first_names(left[one], "Pre-Depends") + _first_names(left[one], "Depends")
        # A dependency of a foreign package is of the same architecture, unless only the root's is in the set.
        _, colon, foreign = one.partition(":")
        todo += [f"{name}:{foreign}" if colon and f"{name}:{foreign}" in left else name for name in needs]
    return found


def _first_names(package: Package, field: str) -> list[str]:
    relations = package.paragraph.get(field, "").replace("\n", " ").split(",")
    return [one.split("|")[0].split("(")[0].split(":")[0].strip() for one in relations if one.strip()]
