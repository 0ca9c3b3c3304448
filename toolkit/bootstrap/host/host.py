"""`ctk bootstrap host DIR`: a small root of the host's own programs, made without a network in a moment.

    find   the programs by name, the interpreters of scripts, the libraries of all of them (elf.py)
    copy   each to the same path as on the host, with the symbolic links that lead to it
    etc    users, name services, terminals: the minimum that programs need

For work offline, classrooms and tests. The result is not a distribution: it has no package manager, and files that a
program opens beside its libraries (data, plugins) are copied only if they are named.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from dataclasses import asdict

from toolkit.bootstrap.acquire import mirrors
from toolkit.bootstrap.facts.architectures import host_architecture
from toolkit.bootstrap.facts.model import Lock, Request, Result
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.host import elf
from toolkit.bootstrap.output.target import Target
from toolkit.errors import CtkError, NotFound, Usage, reason
from toolkit.events import Done, Emit, Note, Planned
from toolkit.text import quote

SUITE = "host"
STAGES = (("find", "Find the programs and their libraries"), ("copy", "Copy"), ("etc", "Users, names, terminals"))

_PROGRAMS = (
    "bash sh env ls cat cp mv rm mkdir rmdir ln touch chmod chown echo printf pwd id whoami groups hostname uname date "
    "sleep head tail wc sort uniq cut tr tee seq expr test true false basename dirname readlink realpath stat du df dd "
    "mknod mkfifo mktemp sync timeout nproc tty stty yes od md5sum sha256sum install sed grep awk find xargs tar gzip "
    "ps kill top free uptime pgrep pkill nice mount umount dmesg ip ping less more clear which setpriv unshare nsenter"
).split()
_SHELLS = ("bash", "dash", "sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Opened by glibc itself with dlopen(3): name services (built in since 2.34), unwinding for pthread_exit(3).
_OPENED_LATER = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
_TERMINALS = ("xterm", "xterm-256color", "linux", "screen", "screen-256color", "tmux", "tmux-256color", "vt100", "dumb")
_TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")
# C.UTF-8 may be a file or built in. The loader's cache lists the libraries outside the system's folders.
_ALSO = ("/usr/lib/locale/C.utf8", "/etc/ld.so.cache", "/etc/os-release", "/etc/debian_version", "/etc/alpine-release")
_FOLDERS = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "tmp": 0o1777, "run": 0o755, "root": 0o700, "home": 0o755}
_FOLDERS |= {"etc": 0o755, "var": 0o755, "var/tmp": 0o1777, "usr/bin": 0o755}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
    # bash's default prompt shows neither user nor host.
    "root/.bashrc": "PS1='\\u@\\h:\\w\\$ '\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
}
_FICLONE = 0x40049409  # ioctl_ficlone(2)


def bootstrap(request: Request, emit: Emit, *, lenient: bool = False) -> Result:
    """Make the root that `request` asks for; its `include` names programs, files or folders of the host.

    With `lenient`, programs that the host does not have are left out; otherwise they raise NotFound. Raises like
    Target.open. On any error nothing of the tree is left.
    """
    began = time.monotonic()
    if request.architecture and request.architecture != host_architecture():
        raise Usage("make a root of the host's programs", because=f"they are not {request.architecture}'s")
    emit(Planned(STAGES))
    target = Target(request)
    umask = os.umask(0o022)
    try:
        target.open()
        with stage("find", emit) as report:
            programs, paths = find(request, emit, lenient=lenient)
            report.detail = f"{len(programs)} programs, {len(paths)} files"
        with stage("copy", emit) as report:
            copying = Copy(target.path)
            for path in paths:
                copying.add(path)
            report.detail = f"{copying.size_bytes / 1e6:.1f} MB"
        with stage("etc", emit):
            _write_etc(target.path, os.path.basename(programs[0]))
        result, lock = _facts(target.path, copying, began)
        file = target.close(result, lock)
    except BaseException:
        target.remove()
        raise
    finally:
        os.umask(umask)
    spec = f"ctk spec --rootfs {quote(request.target)} --writable"
    steps = (spec, ("" if os.geteuid() else "sudo ") + "ctk run NAME")
    where = f"{result.distribution}, {result.architecture}"
    text = f"{len(programs)} programs of this host ({where}) are in {request.target}"
    emit(Done(text, result.seconds, {**asdict(result), "file": file}, steps))
    return result


def _facts(path: str, copying: "Copy", began: float) -> tuple[Result, Lock]:
    distribution = mirrors.host_distribution()[0] or "linux"
    architecture = host_architecture()
    lock = Lock(SUITE, distribution, "-", architecture, (), (), (), copying.digest.hexdigest())
    result = Result(
        target=path,
        suite=SUITE,
        distribution=distribution,
        variant="-",
        architecture=architecture,
        packages=0,
        size_bytes=copying.size_bytes,
        seconds=round(time.monotonic() - began, 3),
        build_id=lock.build_id,
        engine="host",
    )
    return result, lock


def find(request: Request, emit: Emit, *, lenient: bool) -> tuple[list[str], list[str]]:
    """The paths of the programs, a shell first, and the paths of all files to copy. Raises NotFound."""
    shell = next((name for name in _SHELLS if _program(name)), "")
    if not shell:
        raise NotFound("make a root of the host's programs", because=f"none of {', '.join(_SHELLS)} is on this host")
    wanted = [path for name in (shell, *_PROGRAMS) if name not in request.exclude and (path := _program(name))]
    wanted += [path for path in ("/bin/sh",) if os.path.exists(path)]  # the name that scripts use
    absent = []
    for name in request.include:
        path = os.path.abspath(name) if "/" in name else _program(name)
        if not path or not os.path.exists(path):
            absent.append(name)
        else:
            wanted.append(path)
    if absent and not lenient:
        hint = "name programs on your PATH, files or folders; packages need an archive"
        raise NotFound(f"copy {absent[0]!r} of this host", because="there is no such program or file", hint=hint)
    if absent:
        emit(Note(f"not on this host, so left out: {', '.join(absent)}", warning=True))
    wanted = list(dict.fromkeys(wanted))
    return wanted, _with_needed(wanted, request.include, emit)


def _program(name: str) -> str:
    """The path of a program of the host, from the usual folders, then the caller's PATH; "" if there is none."""
    for folder in (_PATH + ":" + os.environ.get("PATH", "")).split(":"):
        path = os.path.join(folder, name)
        if folder.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def _with_needed(wanted: list[str], asked: tuple[str, ...], emit: Emit) -> list[str]:
    loader = elf.Loader()
    found: dict[str, None] = {}
    todo = [*wanted]
    while todo:
        path = todo.pop(0)
        if path in found:
            continue
        if os.path.isdir(path):
            todo += [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
            continue
        if not os.access(path, os.R_OK) and path not in asked:
            emit(Note(f"{path} is not readable and is left out"))
            continue
        found[path] = None
        try:
            words = elf.script_interpreter(path) if os.path.isfile(path) else []
        except OSError as error:
            raise CtkError(f"read {path!r}", because=reason(error)) from None
        if words:
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            todo += [words[0], *(filter(None, map(_program, named[:1])) if words[0].endswith("/env") else ())]
        else:
            todo += [library for library in loader.closure(path) if library not in found]
    for name in _OPENED_LATER:
        for library in loader.named(name, wanted[0]):
            todo += [library, *loader.closure(library)]
    found.update(dict.fromkeys(todo))
    found.update(dict.fromkeys(path for path in _ALSO if os.path.exists(path)))
    found.update(dict.fromkeys(_terminals()))
    return [path for path in found if os.path.exists(path)]


def _terminals() -> list[str]:
    names = {*_TERMINALS, os.environ.get("TERM", "dumb").replace("/", "_")}
    paths = [f"{folder}/{name[:1]}/{name}" for folder in _TERMINFO for name in sorted(names)]
    return [path for path in paths if os.path.isfile(path)]


class Copy:
    """Copies files of the host to the same paths below `target`, a folder that nobody else writes to."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self._done: set[str] = set()
        for folder, mode in _FOLDERS.items():
            self._folder("/" + folder)
            os.chmod(target + "/" + folder, mode)
        for link in ("/bin", "/sbin", "/lib", "/lib64"):
            if os.path.islink(link):
                self._folder(link)

    def add(self, path: str) -> None:
        """Copy the file or folder at `path`, with every symbolic link on the way to it. Raises CtkError."""
        try:
            real = self._walk(path)
            if os.path.isdir(real):
                for folder, _, names in os.walk(real):
                    for name in names:
                        self.add(os.path.join(folder, name))
            elif stat.S_ISREG(os.stat(real).st_mode):
                self._file(real)
        except OSError as error:
            doing = f"copy {path!r} of this host"
            raise CtkError(doing, because=reason(error)) from None

    def _walk(self, path: str) -> str:
        """Make the folders and links that lead to `path`. Returns its real path, without symbolic links."""
        todo, at, links = [part for part in path.split("/") if part], "", 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            here = f"{at}/{part}"
            if not os.path.islink(here):
                if todo:
                    self._folder(here)
                at = here
                continue
            links += 1
            if links > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            link = os.readlink(here)
            if not os.path.lexists(self.target + here):
                self._folder(at)
                os.symlink(link, self.target + here)
            if link.startswith("/"):
                at = ""
            todo = [piece for piece in link.split("/") if piece not in ("", ".")] + todo
        return at

    def _folder(self, path: str) -> None:
        """Make a folder of the target, given by its path on the host, with its parents. Links stay links."""
        if not path or path in self._done:
            return
        if os.path.islink(path):
            self._walk(path + "/.")
        else:
            self._folder(path.rpartition("/")[0])
            if not os.path.isdir(self.target + path):
                os.mkdir(self.target + path, 0o755)
        self._done.add(path)

    def _file(self, path: str) -> None:
        if path in self._done:
            return
        self._folder(os.path.dirname(path))
        with open(path, "rb") as source:
            info = os.fstat(source.fileno())
            with open(self.target + path, "xb") as copy:
                try:
                    fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
                except OSError:  # another file system, or one without shared extents
                    shutil.copyfileobj(source, copy, 1 << 20)
                os.fchmod(copy.fileno(), stat.S_IMODE(info.st_mode) & 0o755)
        os.utime(self.target + path, ns=(info.st_atime_ns, info.st_mtime_ns))
        self.size_bytes += info.st_size
        self.digest.update(f"{path} {info.st_size} {info.st_mtime_ns}\n".encode(errors="surrogateescape"))
        self._done.add(path)


def _write_etc(root: str, shell: str) -> None:
    for name, text in _FILES.items():
        path = f"{root}/{name}"
        if not os.path.lexists(path):
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
    sh = f"{root}/bin/sh"
    if not os.path.lexists(sh):
        os.symlink(shell, sh)
