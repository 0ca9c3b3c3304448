"""What the root of a user namespace can do to the mounts that it was given (S53)."""

import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command

pytestmark = pytest.mark.root


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
@pytest.mark.parametrize("flag", ["ro", "noexec", "nosuid", "nodev"])
def test_s53_flags_of_the_hosts_mounts_are_locked(
    runtime: str, flag: str, ctk: Command, busybox_bundle: Bundle, tmp_path: Path
) -> None:
    """A mount that is bound as it is on the host is not changed by a container with CAP_SYS_ADMIN in its namespace."""
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "-o", f"remount,bind,{flag}", source], check=True)

        def change(spec: dict) -> None:  # type: ignore[type-arg]
            spec["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(source), "options": ["bind"]})
            for kind in ("bounding", "effective", "permitted"):
                spec["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
            spec["linux"]["namespaces"].append({"type": "user"})
            ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
            spec["linux"].update(uidMappings=ids, gidMappings=ids)

        script = "mount -o remount,bind,rw,exec,suid,dev /mnt 2>&1; grep ' /mnt ' /proc/self/mounts"
        busybox_bundle.args("/bin/sh", "-c", script).edit(change)
        command = ctk if runtime == "ctk" else ctk.like("runc")
        said = command("run", "--bundle", str(busybox_bundle), command.id()).ok().out
        assert "permission denied" in said
        assert flag in said.splitlines()[-1].split()[3].split(",")
    finally:
        subprocess.run(["umount", source], check=True)
