"""The Python half of the command `ctk`: find the package, run it.

Called as `python3 -I -S -X utf8 launch.py COMMAND ARGUMENTS`, COMMAND being the path of the `ctk` that started us: the
program of ctk.c or scripts/ctk. Installed as share/ctk/launch.py; docs/decisions/0003-launcher.md.
"""

import sys
from posix import geteuid, stat, umask


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


del sys.argv[0]
if folder := _folder():
    sys.path.append(folder)
    _beware(folder)
else:
    import site

    site.main()
from toolkit.__main__ import main  # noqa: E402 (it is found now)

main()
