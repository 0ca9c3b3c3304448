"""A package that starts its service starts nothing while a tree is built, and can in the finished one (security B8)."""

import subprocess
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.command import Command, tool
from tests.fixtures.ubuntu import UbuntuArchive

pytestmark = [pytest.mark.root, pytest.mark.archive]

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


@pytest.mark.timeout(300)
def test_b8_no_service_starts_while_a_tree_is_built(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    package = tmp_path / "canary_1.0_amd64.deb"
    package.write_bytes(
        debs.make({"Package": "canary"}, {"./etc/init.d/canary": INIT}, scripts={"postinst": POSTINST}, suffix="zst")
    )
    words = ["--mirror", ubuntu_archive.url, "--keyring", str(ubuntu_archive.keyring), "--components", "main,universe"]
    root = tmp_path / "fs"
    ctk("bootstrap", "jammy", str(root), "--variant=minbase", f"--include={package}", *words, timeout=250).ok()
    assert (root / "etc/init.d/canary").stat().st_mode & 0o111, "the postinst did not run"
    assert sorted(path.name for path in root.glob("started*")) == []
    # libc6's postinst asks, and sleeps for a second where the answer is anything else.
    assert (root / "in-a-chroot").read_text() == "yes\n"
    assert not (root / "usr/sbin/policy-rc.d").exists()
    for name in ("usr/sbin/start-stop-daemon", "usr/bin/ischroot"):
        assert (root / name).read_bytes()[:4] == b"\x7fELF"
    assert not list(root.rglob("*.REAL"))
    # The control: the same lines do start it where nobody stands in the way.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    inside = f"mount -t proc proc {root}/proc && exec chroot {root} /bin/sh /var/lib/dpkg/info/canary.postinst"
    subprocess.run(
        [tool("unshare"), "--mount", "/bin/sh", "-c", inside], check=True, env={"PATH": "/usr/sbin:/usr/bin"}
    )
    assert sorted(path.name for path in root.glob("started*")) == ["started-by-init", "started-directly"]


@pytest.mark.timeout(300)
def test_b9_b12_links_for_the_hosts_files_and_what_no_copy_may_share(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    """A package that ships /etc/resolv.conf and /etc/hostname as links to files of the host, and leaves secrets."""
    canary = tmp_path / "canary"
    canary.write_text("the host's own\n")
    package = tmp_path / "links_1.0_amd64.deb"
    keys = "#!/bin/sh\nmkdir -p /etc/ssh\necho secret > /etc/ssh/ssh_host_ed25519_key\necho 0123 > /etc/machine-id\n"
    files = {"./etc/resolv.conf": f"-> {canary}", "./etc/hostname": "-> ../../../../../.." + str(canary)}
    package.write_bytes(debs.make({"Package": "links"}, files, scripts={"postinst": keys}, suffix="zst"))
    words = ["--mirror", ubuntu_archive.url, "--keyring", str(ubuntu_archive.keyring), "--components", "main,universe"]
    root = tmp_path / "fs"
    env = {"http_proxy_password": "hunter2-of-the-caller", "CTK_CACHE": str(tmp_path / "cache")}
    ctk("bootstrap", "jammy", str(root), "--variant=minbase", f"--include={package}", *words, env=env, timeout=250).ok()
    assert canary.read_text() == "the host's own\n"
    assert (root / "etc/resolv.conf").is_symlink()
    assert (root / "etc/machine-id").read_bytes() == b""
    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    assert not (root / "root/.bash_history").exists()
    leaks = subprocess.run(["grep", "-rl", "hunter2-of-the-caller", root], capture_output=True, text=True)
    assert leaks.stdout == ""
