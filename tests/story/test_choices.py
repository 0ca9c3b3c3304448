"""Where runtimes differ, what ctk does: the rows of docs/compatibility.md that say so."""

import pytest

pytestmark = pytest.mark.root


def test_a_capability_that_cannot_be_granted_is_warned_about(ctk, busybox_bundle):
    """runc and crun refuse. An engine in a container asks for its usual set all the same, and less is never more."""
    named = {"bounding", "effective", "permitted"}

    def change(spec):
        for kind in named:
            spec["process"]["capabilities"][kind].append("CAP_SYS_TIME")

    busybox_bundle.args("/bin/grep", "CapBnd", "/proc/self/status").edit(change)
    without = ["setpriv", "--bounding-set", "-sys_time", "--"]

    def run(runtime):
        words = runtime.argv("run", "--bundle", str(busybox_bundle), runtime.id())
        return type(ctk)(without[0], ctk.root, ctk.environment)(*without[1:], *words)

    assert run(ctk.like("runc")).rc != 0
    done = run(ctk).ok()
    assert "level=warning" in done.err and "CAP_SYS_TIME" in done.err
    assert not int(done.out.split()[1], 16) >> 25 & 1


@pytest.mark.parametrize("mount", [
    {"type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
    {"type": "bind", "source": "rootfs", "options": ["bind"]},
])  # fmt: skip
def test_a_mount_on_the_root(ctk, busybox_bundle, mount):
    """Carried out, as by runc 1.1 (a copy of the root in memory, or the root itself); runc 1.2 and later refuse it."""
    busybox_bundle.args("/bin/echo", "hi").edit(lambda spec: spec["mounts"].insert(0, {"destination": "/"} | mount))
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out == "hi\n"


def test_called_runc_a_mounts_error_has_runcs_words(ctk, busybox_bundle, tmp_path):
    (link := tmp_path / "runc").symlink_to(ctk.program)
    mount = {"destination": "/mnt", "type": "bind", "source": "/nowhere", "options": ["bind"]}
    busybox_bundle.edit(lambda spec: spec["mounts"].append(mount))
    as_runc = type(ctk)(str(link), ctk.root, ctk.environment, ("--root", ctk.root))
    said = as_runc("run", "--bundle", str(busybox_bundle), ctk.id()).err
    assert "runc run failed: unable to start container process: error during container init: error mounting" in said
    assert "no such file or directory" in said
