"""Findings about the system: cgroups, subordinate ids, CRIU, disk space, the clock, Python packages, the mirrors."""

import os
import pwd
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec

from toolkit import places
from toolkit.care.finding import BAD, NOTE, OK, WARN, Finding
from toolkit.errors import HostLacks
from toolkit.kernel import delegation, subids
from toolkit.kernel.host import HostFacts, read
from toolkit.text import quote

_DELEGATE = (
    "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
    "sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload"
)
_LIBRARIES = {"requests": "requests", "pysequoia": "pysequoia", "zstandard": "zstandard", "elftools": "pyelftools"}
_WANTED = ("cpu", "memory", "pids")
_ROOM_BYTES = 400 << 20  # a minbase and its packages
_COMFORT_BYTES = 1500 << 20


def cgroups(facts: HostFacts) -> Iterator[Finding]:
    """The cgroup layout, and the controllers that the caller can use for limits."""
    layout = facts.cgroup_layout
    if layout == "none":
        fix = "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        yield Finding("cgroups", BAD if os.geteuid() == 0 else WARN, "none are mounted", "limits, stats", fix)
        return
    yield Finding("cgroups", OK, {"v1": "v1", "hybrid": "v1 with a v2 tree beside it", "v2": "v2"}[layout])
    usable = delegation.controllers()
    missing = [name for name in _WANTED if name not in usable]
    if not missing:
        yield Finding("limits", OK, f"you can use {', '.join(usable)}")
    elif os.geteuid() == 0:
        yield Finding("limits", WARN, f"no {', '.join(missing)} controller here", "spec --memory, --cpus, --pids-limit")
    else:
        session = read("/proc/self/cgroup").partition("0::")[2].split("\n")[0]
        fix = ""
        if layout == "v2":
            # Outside the user manager's cgroup the caller needs a scope of its own; inside, systemd must delegate more.
            fix = "systemd-run --user --scope -p Delegate=yes ctk run NAME" if "user@" not in session else _DELEGATE
        what = f"not delegated to you: {', '.join(missing)}" + ("" if fix else " (v1 cgroups are root's)")
        yield Finding("limits", WARN, what, "limits without root", fix)


def subordinate_ids(_: HostFacts) -> Iterator[Finding]:
    """The ids that a user can map in addition to their own, and the programs that write the maps."""
    if os.geteuid() == 0:
        return
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    uids, _gids = subids.of_caller()
    if len(uids) == 1:
        first = _unused_ids()
        ids = f"{first}-{first + 65535}"
        fix = f"sudo usermod --add-subuids {quote(ids)} --add-subgids {quote(ids)} {quote(name)}"
        what = f"fewer than {subids.ENOUGH} for you in {subids.SUBUID} and {subids.SUBGID}: one id only"
        yield Finding("subordinate ids", WARN, what, "trees with all their owners, without root", fix)
        return
    yield Finding("subordinate ids", OK, f"{sum(count for _, _, count in uids[1:])} for you")
    for program in ("newuidmap", "newgidmap"):
        path = shutil.which(program)
        if path is None:
            fix = "sudo apt-get install uidmap"
            yield Finding("subordinate ids", BAD, f"{program} is not installed", "run and bootstrap without root", fix)
        elif not os.stat(path).st_mode & stat.S_ISUID and not _has_file_capability(path):
            what = f"{path} has neither the setuid bit nor a capability"
            yield Finding(
                "subordinate ids", BAD, what, "run and bootstrap without root", f"sudo chmod u+s {quote(path)}"
            )


def _unused_ids() -> int:
    """The first id above all allocated ranges: users with overlapping ranges could access each other's files."""
    ends = [100000]  # SUB_UID_MIN of login.defs(5), as Debian sets it
    for table in (subids.SUBUID, subids.SUBGID):
        for line in read(table, 1 << 20).splitlines():
            words = line.strip().split(":")
            if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
                ends.append(int(words[1]) + int(words[2]))
    return max(ends)


def _has_file_capability(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def criu(_: HostFacts) -> Iterator[Finding]:
    """The program that checkpoint and restore use."""
    path = shutil.which("criu", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    if not path:
        yield Finding("criu", NOTE, "not installed", "checkpoint, restore", "sudo apt-get install criu")
        return
    from toolkit.runtime import criu as program

    try:
        program.check(path)
    except HostLacks as lack:
        yield Finding("criu", WARN, f"{path} does not work here: {lack.because}", "checkpoint, restore")
    else:
        yield Finding("criu", OK, path)


def room(_: HostFacts) -> Iterator[Finding]:
    """Free space and mount options of the folders for caches, bundles and records, and of the current folder."""
    seen: dict[int, str] = {}
    for name, path in (
        ("here", os.getcwd()),
        ("cache", places.cache_dir()),
        ("bundles", places.data_dir()),
    ):
        there = path
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        if os.stat(there).st_dev in seen:
            continue
        seen[os.stat(there).st_dev] = there
        about = os.statvfs(there)
        free = about.f_bavail * about.f_frsize
        what = f"{name} ({there}): {free / 1e9:.1f} GB free"
        if free < _ROOM_BYTES:
            yield Finding("space", BAD, what, "bootstrap", f"df -h {quote(there)}")
        else:
            yield Finding("space", OK if free >= _COMFORT_BYTES else WARN, what)
        flags = about.f_flag
        for flag, option in ((os.ST_NOEXEC, "noexec"), (os.ST_NODEV, "nodev"), (os.ST_RDONLY, "ro")):
            if flags & flag and name == "here":
                better = "rw" if option == "ro" else option[2:]
                fix = f"sudo mount -o remount,{quote(better)} {quote(_mount_point(there))}"
                yield Finding("space", WARN, f"{there} is mounted {option}", "bootstrap into this folder", fix)


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def clock(_: HostFacts) -> Iterator[Finding]:
    """Whether the clock is plausible, which signatures depend on. `mirrors` compares it with a mirror's date."""
    ours = os.stat(os.path.join(os.path.dirname(places.__file__), "places.py")).st_mtime
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < ours - 24 * 3600:
        fix = "sudo timedatectl set-ntp true"
        yield Finding("clock", BAD, f"it says {shown}, before ctk was installed", "bootstrap", fix)
    else:
        yield Finding("clock", OK, shown)


def libraries(_: HostFacts) -> Iterator[Finding]:
    """The Python packages that building a root needs; this Python may lack some."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if not missing:
        yield Finding("libraries", OK, f"{sys.executable} has {', '.join(_LIBRARIES)}")
        return
    names = " ".join(_LIBRARIES[name] for name in missing)
    what = f"{sys.executable} has no {', '.join(missing)}"
    yield Finding("libraries", BAD, what, "bootstrap", f"{quote(sys.executable)} -m pip install {names}")


def mirrors(_: HostFacts) -> Iterator[Finding]:
    """Whether the archive's first mirror answers, and whether its date agrees with our clock."""
    if find_spec("requests") is None:
        yield Finding("mirrors", NOTE, "not checked: a library is missing (above)")
        return
    from datetime import UTC, datetime

    from toolkit.bootstrap.acquire import mirrors as choice
    from toolkit.bootstrap.facts import suites
    from toolkit.bootstrap.facts.architectures import host_architecture
    from toolkit.deb.release import parse_date
    from toolkit.errors import CtkError
    from toolkit.fetch.http import Client

    now = datetime.now(UTC)
    suite = suites.lookup("bookworm")
    architecture = host_architecture()
    client = Client(connect_s=4.0, stall_s=6.0, retries=0)
    reason = ""
    try:
        for chosen in choice.choose(suite, architecture, "", today=now.date().isoformat()):
            mirror = client.logins.take(chosen.mirror)
            url = f"{mirror}/dists/{suite.codename}/Release"
            try:
                text = client.read(url, limit=4 << 20).decode(errors="replace")
            except CtkError as error:
                reason = reason or str(error)
                continue
            yield Finding("mirrors", OK, f"{mirror} answers ({chosen.why})")
            dates = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Date:")]
            if dates and (parse_date(dates[0]) - now).total_seconds() > 3600:
                what = f"the archive is from {dates[0]}, and our clock says {now:%Y-%m-%d %H:%M} UTC"
                yield Finding("clock", BAD, what, "bootstrap", "sudo timedatectl set-ntp true")
            return
    finally:
        client.close()
    proxies = [name for name in ("http_proxy", "https_proxy") if os.environ.get(name)]
    what = f"no archive answers: {reason}" + (f" ({', '.join(proxies)} set)" if proxies else "")
    yield Finding("mirrors", BAD, what, "bootstrap", "ctk bootstrap host ./fs   # needs no archive")
