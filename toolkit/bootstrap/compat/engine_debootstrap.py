"""`--engine debootstrap`: the real program makes the tree, for users who want exactly its result.

It runs on the host, as root, in mount and pid namespaces of its own (host_program.py): however it ends, its mounts and
processes are gone. Its messages become the events of any other build (debootstrap_progress.py). The output of the
programs that it runs is in the log.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator

from toolkit import places
from toolkit.bootstrap.acquire import mirrors
from toolkit.bootstrap.compat.debootstrap_progress import STAGES, Messages
from toolkit.bootstrap.compat.second_stage import own_proc, read_facts, read_lock, run_theirs
from toolkit.bootstrap.customize import customize
from toolkit.bootstrap.facts import suites
from toolkit.bootstrap.facts.architectures import host_architecture, is_native
from toolkit.bootstrap.facts.debootstrap_files import FOLDER
from toolkit.bootstrap.facts.model import Lock, Package, Request, Source
from toolkit.bootstrap.sandbox import emulation, host_program
from toolkit.deb.control import paragraphs
from toolkit.deb.release import parse_release
from toolkit.errors import BuildFailed, HostLacks, NotFound, Usage, reason
from toolkit.events import Emit, Event, Line
from toolkit.fetch.logins import bare
from toolkit.fetch.verify import find_keyring
from toolkit.kernel import reading, rmtree_beneath
from toolkit.kernel.beneath import open_beneath
from toolkit.kernel.host import HostFacts

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPTS = "/usr/share/debootstrap/scripts"
_VARIANTS = ("-", "minbase", "buildd", "fakechroot")
_NATIVE_ONLY = (
    "pockets", "sources", "source_files", "pins", "preferences", "include_files", "recommends", "snapshot", "locked"
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")  # read by wget(1), with which it fetches
_DOING = "make the tree with debootstrap"


def check(request: Request) -> None:
    """Raise HostLacks, NotFound, Usage for a request that debootstrap can't meet, before anything is made."""
    if os.geteuid() != 0 or HostFacts().in_user_namespace:
        raise HostLacks(
            _DOING,
            because="it makes device nodes, which only the host's root may do",
            hint="run it with sudo; --engine native, the default, needs no root",
        )
    _program()
    mirror = _where(request, request.architecture or host_architecture())[0]
    if bare(mirror) != mirror:
        raise Usage(
            _DOING,
            because="it would write the name and password of the mirror into the tree and its log",
            hint="name the mirror without them and put them into ~root/.netrc, where wget(1) looks; --engine native "
            "takes them and writes them nowhere",
        )
    if request.variant not in _VARIANTS:
        raise Usage(
            _DOING,
            because=f"it has no variant {request.variant!r}",
            hint="its variants: -, minbase, buildd; --engine native also has mmdebstrap's",
        )
    for name in _NATIVE_ONLY:
        if getattr(request, name):
            option = "--" + name.replace("_", "-").removesuffix("s")
            raise Usage(_DOING, because=f"it has no option like {option}", hint="--engine native, the default, does")
    custom = request.custom
    if custom.hooks("extract") or custom.hooks("essential"):
        raise Usage(
            _DOING,
            because="it can't be interrupted for an extract or essential hook",
            hint="setup and customize hooks run; --engine native has all four",
        )
    if request.script and not (os.path.isfile(request.script) or os.path.isfile(f"{_SCRIPTS}/{request.script}")):
        raise NotFound(f"find debootstrap's script {request.script!r}", because=f"no file, and none in {_SCRIPTS}")
    if not request.script:
        _script(request)


def build(request: Request, target: str, rootfd: int, log_path: str, emit: Emit) -> Lock:
    """Make the tree in the empty folder `target`. Returns the lock of its packages. Raises CtkError, OSError."""
    architecture = request.architecture or host_architecture()
    emulate = b"" if request.foreign else emulation.emulation(architecture).registration
    messages = Messages(emit)
    custom = request.custom
    blank = Lock(request.suite, "", request.variant, architecture, (), (), (), "")
    customiser = customize.Customiser(custom, target, rootfd, blank, log_path, emulate, emit)
    customiser.setup()
    with _keyring(request) as keyring:
        arguments = _arguments(request, architecture, keyring, halfway=request.foreign or bool(emulate))
        try:
            host_program.run(
                [_program(), "--debian-installer", *arguments, target, *_where(request, architecture)],
                doing=_DOING,
                environment=_environment(),
                log_path=log_path,
                line=lambda text: emit(Line(messages.stage or "release", text)),
                status=messages.line,
            )
        except BuildFailed as error:
            if messages.error:
                error.because = f"{messages.error} ({error.because})"
            raise
    if request.foreign:
        messages.finish()
        customiser.extracted()
        return read_lock(rootfd, read_facts(target))
    if emulate:
        own_proc(rootfd)
        messages.enter("configure")
        run_theirs(target, rootfd, log_path, emulate, _without_stage(emit), keep=request.keep_debootstrap_dir)
    messages.finish()
    lock = _lock(rootfd, request, architecture)
    if FOLDER in os.listdir(rootfd) and not request.keep_debootstrap_dir:
        rmtree_beneath.remove(rootfd, FOLDER)
    customiser.sweep()
    customiser.extracted()
    customiser.customize()
    return lock


def stages(request: Request) -> tuple[tuple[str, str], ...]:
    """The stages of a build by debootstrap."""
    if request.foreign:
        return customize.planned(request.custom, STAGES[:-1])
    return (*customize.planned(request.custom, STAGES), *customize.planned(request.custom, (("tidy", ""),))[:-1])


def _without_stage(emit: Emit) -> Emit:
    """An `emit` that passes on lines only: the stage has been started already."""

    def pass_on(event: Event) -> None:
        if isinstance(event, Line):
            emit(event)

    return pass_on


def _program() -> str:
    program = shutil.which("debootstrap", path=_PATH)
    if program is None:
        raise HostLacks(
            _DOING,
            because="it is not installed",
            hint="install it (Debian, Ubuntu: apt install debootstrap), or leave out --engine: ctk does not need it",
        )
    return program


def _environment() -> dict[str, str]:
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    return {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C", "TERM": "dumb", **proxies}


def _suite(request: Request) -> suites.Suite:
    try:
        return suites.lookup(request.suite)
    except NotFound:
        return suites.unknown(request.suite)


def _script(request: Request) -> str:
    """The name of the suite in debootstrap."""
    suite = _suite(request)
    for name in dict.fromkeys((suite.name, suite.codename, request.suite)):
        if os.path.exists(f"{_SCRIPTS}/{name}"):
            return name
    raise NotFound(
        f"find debootstrap's script for {request.suite!r}",
        because=f"there is none in {_SCRIPTS}",
        hint="name another script that fits: … SUITE TARGET MIRROR sid (for Ubuntu: gutsy); or leave out --engine",
    )


def _where(request: Request, architecture: str) -> tuple[str, ...]:
    """The arguments after TARGET: the mirror, the script."""
    suite = _suite(request)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    choices = mirrors.choose(suite, architecture, request.mirror, today=today, native=is_native(architecture))
    mirror = choices[0].mirror
    if mirror.startswith("/"):
        mirror = f"file://{mirror}"
    return (mirror, request.script) if request.script else (mirror,)


def _arguments(request: Request, architecture: str, keyring: str, *, halfway: bool) -> list[str]:
    words = [f"--arch={architecture}"]
    if request.variant != "-":
        words.append(f"--variant={'-' if request.variant == 'fakechroot' else request.variant}")
    for name, values in (
        ("components", request.components),
        ("include", (*request.include, *request.custom.packages())),
        ("exclude", request.exclude),
    ):
        if values:
            words.append(f"--{name}={','.join(values)}")
    if request.keep_debootstrap_dir:
        words.append("--keep-debootstrap-dir")
    if request.unpack_tarball:
        words.append(f"--unpack-tarball={os.path.abspath(request.unpack_tarball)}")  # it must be absolute
    if request.cache_dir:
        words.append(f"--cache-dir={os.path.abspath(request.cache_dir)}")  # the same
    for name, value in (("certificate", request.certificate), ("private-key", request.private_key)):
        if value:
            words.append(f"--{name}={value}")
    if request.custom.merged_usr is not None:
        words.append("--merged-usr" if request.custom.merged_usr else "--no-merged-usr")
    words += [f"--keyring={keyring}", "--force-check-gpg"] if keyring else ["--no-check-gpg"]
    if halfway:
        words.append("--foreign")
    words += request.engine_options
    words.append(request.suite if request.script else _script(request))
    return words


@contextlib.contextmanager
def _keyring(request: Request) -> Iterator[str]:
    """The path of one file with all keys that may sign, for gpgv(1); "" if nothing is checked."""
    if not request.check_gpg:
        yield ""
        return
    paths = [request.keyring]
    if not request.keyring:
        folders = (places.shipped("keyrings"), "/usr/share/keyrings")
        paths = [find_keyring(name, folders) for name in _suite(request).keyrings]
    if not paths:
        raise NotFound(_DOING, because="no keyring is known for this suite", hint="name it with --keyring FILE")
    with tempfile.NamedTemporaryFile(prefix="ctk-keyring-", suffix=".gpg") as file:
        for path in paths:
            try:
                with open(path, "rb") as keys:
                    shutil.copyfileobj(keys, file)
            except OSError as error:
                raise NotFound(f"read keyring {path!r}", because=reason(error)) from None
        file.flush()
        yield file.name


def _lock(rootfd: int, request: Request, architecture: str) -> Lock:
    """A lock from dpkg's database in the finished tree, with the hashes of the .debs that debootstrap leaves."""
    with open(open_beneath(rootfd, "var/lib/dpkg/status", os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        reading.check(file.fileno(), "var/lib/dpkg/status", 256 << 20)
        found = list(paragraphs(file.read(), what="dpkg's status file"))
    sums = _hashes(rootfd)
    packages = []
    for fields in found:
        name, version, own = fields["Package"], fields["Version"], fields.get("Architecture", architecture)
        digest, size = sums.get(f"{name}_{version}_{own}.deb".replace(":", "%3a"), ("", 0))
        packages.append(Package(name, version, own, "", size, digest, 0, fields))
    packages.sort(key=lambda one: one.name)
    source = _source(rootfd)
    required = tuple(one for one in packages if one.paragraph.get("Priority") == "required")
    base = tuple(one for one in packages if one.paragraph.get("Priority") != "required")
    facts = [source.release_sha256, *(f"{one.name}={one.version} {one.sha256}" for one in packages)]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    suite = _suite(request)
    codename = source.codename or suite.codename
    return Lock(codename, source.origin.lower(), request.variant, architecture, (source,), required, base, digest)


def _hashes(rootfd: int) -> dict[str, tuple[str, int]]:
    sums = {}
    folder = open_beneath(rootfd, "var/cache/apt/archives", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(folder):
            if name.endswith(".deb"):
                with open(reading.open_file(name, dir_fd=folder, follow=False, limit_bytes=16 << 30), "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    sums[name] = (digest, os.fstat(file.fileno()).st_size)
    finally:
        os.close(folder)
    return sums


def _source(rootfd: int) -> Source:
    folder = open_beneath(rootfd, "var/lib/apt/lists", os.O_RDONLY | os.O_DIRECTORY)
    try:
        name = next((one for one in sorted(os.listdir(folder)) if one.endswith("_Release")), "")
        data = b""
        if name:
            data = reading.read(name, dir_fd=folder)
    finally:
        os.close(folder)
    with open(open_beneath(rootfd, "etc/apt/sources.list", os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as text:
        reading.check(text.fileno(), "etc/apt/sources.list")
        line = text.readline().split()
    mirror, suite, components = (line[1], line[2], tuple(line[3:])) if len(line) > 3 else ("", "", ())
    if not data:  # from a tarball that ctk made, which has indexes and no Release
        known = suites.lookup(suite) if suite in suites.SUITES else suites.unknown(suite)
        origin = known.distribution.name.title() if known.distribution else ""
        return Source(mirror, suite, known.codename, origin, components, "", "")
    release = parse_release(data)
    digest = hashlib.sha256(data).hexdigest()
    return Source(mirror, suite, release.codename, release.origin, components, release.date, digest)
