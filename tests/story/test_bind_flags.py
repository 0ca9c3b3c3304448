"""Which flags of its source a bind mount keeps: as runc since 1.2, by its tests (mounts_sshfs.bats)."""

import subprocess

import pytest

pytestmark = pytest.mark.root

# The source's flags, the mount's options, what it has then; what it has in a user namespace, or None: refused.
CASES = [
    ("ro,noexec,nodev", "bind", "ro noexec nodev", "ro noexec nodev"),
    ("ro,noexec", "bind,dev", "rw", "ro noexec"),
    ("ro", "bind,nosuid", "rw nosuid", "ro nosuid"),
    ("ro", "bind,rw,nosuid", "rw nosuid", None),
    ("nosuid,nodev,noatime", "bind,ro,exec", "ro noatime", "ro nosuid nodev noatime"),
    ("nosuid", "bind,suid", "rw", None),
    ("noatime", "bind,relatime", "rw relatime", None),
    ("nodev,nosymfollow", "bind,rw", "rw", "rw nodev"),
]
SHOWN = {"ro", "rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}


@pytest.fixture
def source(tmp_path):
    """A mount to bind, and how its own flags are set: those of its file system nobody could clear."""
    folder = tmp_path / "source"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "strictatime", "tmpfs", folder], check=True)

    def set_flags(flags):
        subprocess.run(["mount", "-o", f"remount,bind,{flags}", folder], check=True)
        return str(folder)

    yield set_flags
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(("there", "options", "shown", "in_a_user_namespace"), CASES)
def test_flags_that_are_not_named_are_cleared_with_the_first_that_is(
    ctk, busybox_bundle, source, there, options, shown, in_a_user_namespace
):
    mount = {"destination": "/mnt", "type": "bind", "source": source(there), "options": options.split(",")}
    busybox_bundle.args("/bin/grep", " /mnt ", "/proc/self/mounts").edit(lambda spec: spec["mounts"].append(mount))
    seen = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out.split()[3].split(",")
    assert set(seen) & SHOWN == set(shown.split())
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
    busybox_bundle.edit(lambda spec: spec["linux"].update(uidMappings=ids, gidMappings=ids))
    busybox_bundle.edit(lambda spec: spec["linux"]["namespaces"].append({"type": "user"}))
    done = ctk("run", "--bundle", str(busybox_bundle), ctk.id())
    if in_a_user_namespace is None:
        assert done.rc == 1 and "cannot clear locked flags" in done.err and "operation not permitted" in done.err
    else:
        assert set(done.ok().out.split()[3].split(",")) & SHOWN == set(in_a_user_namespace.split())


def test_writable_may_be_said_of_a_read_only_file_system(ctk, busybox_bundle, source):
    """It has no effect, so nothing is taken away: not refused in a user namespace, as the kernel does not."""
    folder = source("rw")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,rw", folder], check=True)
    mount = {"destination": "/mnt", "type": "bind", "source": folder, "options": ["bind", "rw"]}
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]

    def change(spec):
        spec["mounts"].append(mount)
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"].update(uidMappings=ids, gidMappings=ids)

    busybox_bundle.args("/bin/true").edit(change)
    ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok()
