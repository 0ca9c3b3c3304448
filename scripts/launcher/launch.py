"""The Python half of the command `ctk`: find the package, run it.

Called as `python3 -I -S -X utf8 launch.py COMMAND ARGUMENTS`, COMMAND being the path of the `ctk` that started us: the
program of ctk.c or scripts/ctk. Installed as share/ctk/launch.py; docs/decisions/0003-launcher.md.
"""

import sys
from posix import O_CLOEXEC, close, fstat, geteuid, read, stat, umask
from posix import open as open_file


def _folder() -> str:
    """The folder that holds the package `toolkit`, beside the command; '' leaves the search to site."""
    here = sys.argv[0].rpartition("/")[0] or "."
    version = "python%d.%d" % sys.version_info[:2]  # noqa: UP031 (an f-string is no faster, and this is read first)
    for folder in (
        here + "/../lib/" + version + "/site-packages",
        here + "/..",
        here + "/../lib/" + version + "/dist-packages",
        here + "/../local/lib/" + version + "/dist-packages",
        here + "/../lib/python3/dist-packages",
    ):
        try:
            stat(folder + "/toolkit/__main__.py")
        except OSError:
            continue
        return folder
    try:  # an editable install names its checkout in a .pth file
        with open(here + "/../lib/" + version + "/site-packages/_editable_impl_ctk_oci.pth") as pth:
            return pth.readline().strip()
    except OSError:
        return ""


def _beware(folder: str) -> None:
    """Leave compiled code alone that others could have written, and write none that others could change."""
    before = umask(0o022)
    umask(before)
    if not before & 0o002:  # importlib makes __pycache__ with what the umask leaves of 0777
        sys.dont_write_bytecode = True
    try:
        kept = stat(folder + "/toolkit/__pycache__")
    except OSError:
        return
    if kept.st_mode & 0o002 or kept.st_uid not in (0, geteuid(), stat(folder + "/toolkit").st_uid):
        sys.dont_write_bytecode = True
        sys.pycache_prefix = "/dev/null"  # no folder: nothing is found below it


def _begin(package: str) -> None:
    """Load what a verb needs, from the file of compiled code (toolkit/preload.py) if it is beyond doubt.

    Without a verb among the arguments, or with the least doubt, the import system loads preload.py, which looks again.
    """
    from marshal import loads

    try:
        file = open_file(package + "/__pycache__/hot." + sys.implementation.cache_tag + ".bin", O_CLOEXEC)
        try:
            about = fstat(file)
            here = stat(package)
            if about.st_mode & 0o022 or about.st_uid not in (0, geteuid(), here.st_uid):
                return
            head = loads(read(file, 24576))
        finally:
            close(file)
        home, _, verbs, (name, path, size, time, _, code) = head
        there = stat(home)
        source = stat(package + "/" + path)
    except (OSError, ValueError, EOFError, TypeError):
        return
    words = sys.argv[1:] if sys.argv[1][:1] == "-" else sys.argv[1:2]
    verb = next((word for word in words if word in verbs), "")
    if verb and (there.st_ino, there.st_dev, source.st_size, source.st_mtime_ns) == (
        here.st_ino,
        here.st_dev,
        size,
        time,
    ):
        module = sys.modules[name] = type(sys)(name)
        module.__file__ = package + "/" + path
        exec(code, module.__dict__)
        module.begin(about, head, verb)


del sys.argv[0]
if folder := _folder():
    sys.path.append(folder)
    _beware(folder)
    if len(sys.argv) > 1:
        _begin(folder + "/toolkit")
else:
    import site

    site.main()
from toolkit.__main__ import main  # noqa: E402 (it is found now)

main()
