"""Configure an unpacked tree: maintainer scripts and `dpkg --configure` in the order that debootstrap has.

The order matters: packages that make users get their numbers in it, and one `dpkg --configure -a` gives others. So:

1. the core packages' preinsts, base-passwd and base-files configured (they make the users and folders of all others);
2. the other required packages' preinsts, then all of them configured;
3. the base set: what its Pre-Depends ask for, one closure after another as `dpkg --predep-package` names them, each
   unpacked and configured; then the rest unpacked, and configured.

debootstrap unpacks each package a second time in each of these steps. Here the required packages' files lie in the tree
from the start, the base set's come in when it is their turn (base_set.py), and "unpacked" means registered in dpkg's
database (database.py), which is what dpkg goes by.
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
# No service may start in a tree that is being built. debootstrap's way: policy-rc.d answers 101 ("action forbidden"),
# start-stop-daemon does nothing.
_NO_START = b"#!/bin/sh\nexit 101\n"
_FAKE_DAEMON_STARTER = b"""#!/bin/sh
echo
echo "Warning: Fake start-stop-daemon called, doing nothing"
"""
# It renames and removes what older versions of a package left: all that it does on a first installation is to find that
# there is none, by 280 processes in a minbase (0.2 to 0.3 s of 1.6; the tree is the same, scripts/compare-tree).
_NOTHING_TO_MIGRATE = b"#!/bin/sh\nexit 0\n"
# ischroot(1) looks at process 1's root, which no script may do here (sandbox_init), and then answers "not known".
# libc6's postinst took that for a system that runs: it asked an init that isn't there to start anew, and slept for
# a second.
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
    """Run the scripts of the tree at `target`, which `rootfd` has open, inside it, isolated from the host.

    Their output goes to `log_path` and out as Lines.
    `open_deb` gives the descriptor of a package's .deb, to close. `between` is called when the required packages are
    configured, and the others not yet there. `emulate` as Sandbox.
    Nothing of it survives the call. Raises BuildFailed for a script that fails, HostLacks without the namespaces.
    """
    progress = _Progress(emit, len(unpacked))
    with Sandbox(target, log_path, progress.line, progress.status, emulate=emulate, rootfd=rootfd) as sandbox:
        Configuration(rootfd, lock, unpacked, sandbox, emit, open_deb, between).run()


def log_path(target: str) -> str:
    """Where all that the programs of a build of `target` print is kept."""
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
    """One run of `configure`, in a sandbox that is open."""

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
            # Its postinst makes the alternative; update-alternatives would keep the time of a link that is there.
            _unlink_awk(self._rootfd)
            self._dpkg("--force-depends", "--configure", "mawk", doing="configure mawk")
        # What base-passwd has just made is known by name now.
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
        """What debootstrap does between the sets: dpkg learns of the archive's sections and priorities by it."""
        rank = {name: i for i, source in enumerate(self._lock.sources) for name in source.components}
        # The archive's indexes are in the order of the source packages, by which the pool's folders are named.
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
                break  # dpkg asks for something that was left out on purpose
            self._install(base, names, doing=f"configure the pre-dependency {name!r}")
            for one in names:
                del left[one]
        if left:
            self._install(base, sorted(left), every=True, doing="configure the base system")
        base.finish()

    def _install(self, base: BaseSet, names: list[str], *, doing: str, every: bool = False) -> None:
        base.unpack(self._unpacked[name] for name in names)
        states = {} if every else self._database.states()  # one that was replaced as a whole has disappeared
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
        """The package that `dpkg --predep-package` wants to see installed first; "" for none."""
        self._sandbox.run(
            [self._program("dpkg"), "--predep-package"], doing="ask dpkg for pre-dependencies", accept=(0, 1)
        )
        found = dict(line.split(": ", 1) for line in self._sandbox.output() if ": " in line and line[0] != " ")
        name, architecture = found.get("Package", "").strip(), found.get("Architecture", "").strip()
        return name if architecture in ("", "all", self._lock.architecture) else f"{name}:{architecture}"

    def _preinst(self, one: Unpacked) -> None:
        if "preinst" not in one.control:
            return
        self._database.lay_out_control(one)
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
    """A program of the tree replaced by a script while packages are configured."""

    def __init__(self, rootfd: int, folder: str, name: str, text: bytes) -> None:
        self._rootfd = rootfd
        self._folder = folder
        self._name = name
        self._text = text
        self._moved = False

    def __enter__(self) -> None:
        folder = make_directories(self._rootfd, self._folder)
        try:
            if self._is_there(folder):  # a second stage that was killed has left it
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
    """base-files asks for an awk before mawk is configured; True if the link was made."""
    folder = make_directories(rootfd, "usr/bin")
    try:
        os.symlink("mawk", "awk", dir_fd=folder)
        return True
    except FileExistsError:
        return False
    finally:
        os.close(folder)


def _asks_for_predependencies(packages: Iterable[Package], left: dict[str, Package]) -> bool:
    """Whether any package's Pre-Depends names one that isn't configured yet; asking dpkg costs 20 ms each time."""
    return any(name in left for package in packages for name in _first_names(package, "Pre-Depends"))


def _closure(name: str, left: dict[str, Package]) -> set[str]:
    """The package and all of `left` that it needs, the way debootstrap resolves: first alternatives, by name."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one in found or one not in left:
            continue
        found.add(one)
        needs = _first_names(left[one], "Pre-Depends") + _first_names(left[one], "Depends")
        # What a package of a foreign architecture needs is of its own, unless only the root's is there.
        _, colon, foreign = one.partition(":")
        todo += [f"{name}:{foreign}" if colon and f"{name}:{foreign}" in left else name for name in needs]
    return found


def _first_names(package: Package, field: str) -> list[str]:
    relations = package.paragraph.get(field, "").replace("\n", " ").split(",")
    return [one.split("|")[0].split("(")[0].split(":")[0].strip() for one in relations if one.strip()]
