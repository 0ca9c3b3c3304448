"""Packages that start a service, write on the host and leave secrets while a tree is built (security B8, B9, B12)."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.command import installed_ctk, tool
from tests.fixtures.ubuntu import UbuntuArchive

pytestmark = [pytest.mark.root, pytest.mark.archive, pytest.mark.timeout(300)]

POSTINST = """#!/bin/sh
set -e
chmod 755 /etc/init.d/canary
invoke-rc.d canary start
start-stop-daemon --start --exec /usr/bin/touch -- /started-directly
ischroot && echo yes > /in-a-chroot
"""
INIT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: canary
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop:
### END INIT INFO
touch /started-by-init
"""


KEYS = "#!/bin/sh\nmkdir -p /etc/ssh\necho secret > /etc/ssh/ssh_host_ed25519_key\necho 0123 > /etc/machine-id\n"


@dataclass(frozen=True)
class Built:
    """A tree with both packages, and a file of the host's that one of them links to."""

    root: Path
    canary: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, ubuntu_archive_files: Path) -> Built:
    """One package has a service; the other ships /etc/resolv.conf and /etc/hostname as links, and leaves secrets."""
    folder = tmp_path_factory.mktemp("services")
    canary, service, links = folder / "canary", folder / "canary_1.0_amd64.deb", folder / "links_1.0_amd64.deb"
    canary.write_text("the host's own\n")
    made = debs.make({"Package": "canary"}, {"./etc/init.d/canary": INIT}, scripts={"postinst": POSTINST}, suffix="zst")
    service.write_bytes(made)
    files = {"./etc/resolv.conf": f"-> {canary}", "./etc/hostname": "-> ../../../../../.." + str(canary)}
    links.write_bytes(debs.make({"Package": "links"}, files, scripts={"postinst": KEYS}, suffix="zst"))
    env = {**os.environ, "http_proxy_password": "hunter2-of-the-caller", "CTK_CACHE": str(folder / "cache")}
    with UbuntuArchive(ubuntu_archive_files).running() as server:
        assert isinstance(server, UbuntuArchive)
        mirror = ["--mirror", server.url, "--keyring", server.keyring, "--components", "main,universe"]
        words = ["bootstrap", "jammy", folder / "fs", "--variant=essential", f"--include={service},{links}", *mirror]
        done = subprocess.run([installed_ctk(), *words], env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(folder / "fs", canary)


def test_b8_no_service_starts_while_a_tree_is_built(built: Built) -> None:
    root = built.root
    assert (root / "etc/init.d/canary").stat().st_mode & 0o111, "the postinst did not run"
    assert sorted(path.name for path in root.glob("started*")) == []
    # libc6's postinst asks, and sleeps for a second where the answer is anything else.
    assert (root / "in-a-chroot").read_text() == "yes\n"
    assert not (root / "usr/sbin/policy-rc.d").exists()
    for name in ("usr/sbin/start-stop-daemon", "usr/bin/ischroot"):
        assert (root / name).read_bytes()[:4] == b"\x7fELF"
    assert not list(root.rglob("*.REAL"))


def test_b8_the_same_lines_start_it_where_nobody_stands_in_the_way(built: Built, tmp_path: Path) -> None:
    root = tmp_path / "fs"
    subprocess.run(["cp", "-a", "--reflink=auto", built.root, root], check=True)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    inside = f"mount -t proc proc {root}/proc && exec chroot {root} /bin/sh /var/lib/dpkg/info/canary.postinst"
    subprocess.run(
        [tool("unshare"), "--mount", "/bin/sh", "-c", inside], check=True, env={"PATH": "/usr/sbin:/usr/bin"}
    )
    assert sorted(path.name for path in root.glob("started*")) == ["started-by-init", "started-directly"]


def test_b9_b12_links_for_the_hosts_files_and_what_no_copy_may_share(built: Built) -> None:
    root = built.root
    assert built.canary.read_text() == "the host's own\n"
    assert (root / "etc/resolv.conf").is_symlink()
    assert (root / "etc/machine-id").read_bytes() == b""
    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    assert not (root / "root/.bash_history").exists()
    leaks = subprocess.run(["grep", "-rl", "hunter2-of-the-caller", root], capture_output=True, text=True)
    assert leaks.stdout == ""
