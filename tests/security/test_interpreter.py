"""Hazards of a runtime that is Python, and of helpers found by name (S12, S24, S44, E3 to E8, E12, E15, E17)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.security.conftest import Canary, pid_of, run, running

pytestmark = pytest.mark.root

TOP = Path(__file__).parents[2]


def search_path(ctk: Command) -> list[str]:
    """Where ctk's Python looks for modules."""
    code = "import sys; print('\\n'.join(sys.path))"
    told = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    return [*told.split(), str(TOP), str(TOP / "toolkit"), "/"]


def with_decoys(bundle: Bundle, ctk: Command, make: Any) -> None:
    """In the image, where the host has its Python: a file for every module, made by `make(path)`."""
    names = [*sorted(sys.stdlib_module_names), "sitecustomize", "usercustomize", "toolkit"]
    for folder in search_path(ctk):
        if folder.endswith(".zip"):
            continue
        place = bundle.rootfs / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            make(place / f"{name}.py")
    for module in (TOP / "toolkit").rglob("*.py"):
        place = bundle.rootfs / str(module).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            make(place)


def everything(bundle: Bundle, ctk: Command) -> None:
    """Every way into a container, the failing ones too."""
    run(ctk, bundle.args("/bin/true")).ok()
    run(ctk, bundle.args("/no/such"))
    run(ctk, bundle.args("nosuch"))
    run(ctk, bundle.args("/etc"))
    run(ctk, bundle.args("/bin/true").edit(lambda config: config["process"].update(cwd="/etc/passwd")))
    bundle.edit(lambda config: config["process"].update(cwd="/"))

    def broken(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/x", "type": "nosuchfs", "source": "x"})

    run(ctk, bundle.edit(broken))
    bundle.edit(lambda config: config["mounts"].pop())
    hooks = {"startContainer": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]}
    with running(ctk, bundle.edit(lambda config: config.update(hooks=hooks)).sh("sleep 1000"), created=True) as name:
        ctk("start", name)
        ctk("exec", name, "true").ok()
        for wrong in (["/no/such"], ["nosuch"], ["/etc"]):
            ctk("exec", name, *wrong)
        ctk("exec", "--cwd", "/no/such", name, "true")
        ctk("exec", "--tty", name, "true")
        ctk("exec", "--user", "1000", name, "/root/x")
    failing = {"startContainer": [{"path": "/no/such"}]}
    with running(ctk, bundle.edit(lambda config: config.update(hooks=failing)), created=True) as name:
        ctk("start", name)


def test_e3_nothing_is_imported_from_the_container(bundle: Bundle, ctk: Command) -> None:
    def make(path: Path) -> None:
        path.write_text("import os\nos.close(os.open('/imported', os.O_CREAT | os.O_WRONLY))\nos._exit(0)\n")

    with_decoys(bundle, ctk, make)
    everything(bundle, ctk)
    assert not (bundle.rootfs / "imported").exists()
    assert not Path("/imported").exists()


def test_e4_no_source_line_is_read_from_the_container(bundle: Bundle, ctk: Command) -> None:
    """A FIFO where a traceback, an import or a codec look-up would read holds the runtime up for ever."""
    with_decoys(bundle, ctk, os.mkfifo)
    before = time.monotonic()
    everything(bundle, ctk)
    assert time.monotonic() - before < 30


def test_e5_the_callers_folder_and_environment_name_no_modules(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    (evil / "toolkit").mkdir(parents=True)
    marker = tmp_path / "imported"
    for folder in (evil, bundle.path):
        for name in ("json", "tarfile", "ctypes", "os", "gc", "errno", "sitecustomize", "usercustomize", "_json"):
            (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (evil / "toolkit/__init__.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (evil / "startup").write_text(f"open({str(marker)!r}, 'w')\n")
    environment = {
        "PYTHONPATH": str(evil), "PYTHONSTARTUP": str(evil / "startup"), "PYTHONUSERBASE": str(evil),
        "PYTHONHOME": str(evil), "PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "evil.x", "PYTHONPLATLIBDIR": str(evil),
        "PYTHONMALLOCSTATS": "1", "PYTHONWARNINGS": "error", "PYTHONPYCACHEPREFIX": str(evil), "PYTHONVERBOSE": "1",
    }  # fmt: skip
    result = ctk("run", ctk.id(), cwd=bundle.path, env=environment).ok()
    assert (result.out, result.err) == ("", "")
    by_module = [sys.executable, "-I", "-m", "toolkit", "list", "-q"]
    subprocess.run(by_module, cwd=bundle.path, env={**ctk.environment, **environment}, check=True, timeout=20)
    assert not marker.exists()


@pytest.mark.parametrize("variable", ["PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"])
def test_e5_variables_that_isolated_python_obeys_all_the_same(variable: str, ctk: Command, tmp_path: Path) -> None:
    """`python3 -I` takes its standard library from where these point: a library of the attacker's, here."""
    fake = tmp_path / "fake"
    library = fake / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    (library / "lib-dynload").mkdir(parents=True)
    (fake / "bin").mkdir()
    (fake / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    marker = tmp_path / "imported"
    (library / "os.py").write_text("")
    (library / "encodings").mkdir()
    (library / "encodings/__init__.py").write_text(
        f"import posix\nposix.close(posix.open({str(marker)!r}, 0o101, 0o644))\nposix._exit(3)\n"
    )
    environment = {**ctk.environment, variable: str(fake / "bin/python3")}
    base = os.path.realpath(sys.executable)
    subprocess.run([base, "-I", "-S", "-c", ""], env=environment, stderr=subprocess.DEVNULL, timeout=20)
    if marker.exists():
        marker.unlink()  # this Python can be led astray so: the launcher has to stand before it
    assert ctk("--version", env={variable: str(fake / "bin/python3")}).ok().out.startswith("ctk version")
    assert not marker.exists()


def test_e6_s44_no_name_service_of_the_container(bundle: Bundle, ctk: Command) -> None:
    """glibc would read nsswitch.conf, load libnss_NAME.so and talk to nscd: all of them are the container's here."""
    etc = bundle.rootfs / "etc"
    for name in (
        "nsswitch.conf",
        "ld.so.cache",
        "ld.so.preload",
        "host.conf",
        "resolv.conf",
        "localtime",
        "locale.alias",
    ):
        os.mkfifo(etc / name)
    nscd = bundle.rootfs / "var/run/nscd"
    nscd.mkdir(parents=True)
    os.mkfifo(nscd / "socket")
    for folder in ("lib/x86_64-linux-gnu", "usr/lib/locale", "usr/share/locale", "usr/lib/x86_64-linux-gnu/gconv"):
        (bundle.rootfs / folder).mkdir(parents=True)
    for name in ("lib/x86_64-linux-gnu/libnss_files.so.2", "usr/lib/locale/locale-archive"):
        os.mkfifo(bundle.rootfs / name)
    os.mkfifo(bundle.rootfs / "usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache")
    with running(ctk, bundle.sh("sleep 1000"), created=True) as name:
        ctk("start", name, timeout=10).ok()
        ctk("exec", "--user", "1000:1000", name, "true", timeout=10).ok()
        assert ctk("exec", "--user", "user", name, "true", timeout=10).rc != 0


@pytest.mark.parametrize("kind", ["fifo", "endless", "folder", "link", "device", "missing"])
def test_s18_user_database_of_the_container(kind: str, bundle: Bundle, ctk: Command) -> None:
    for name in ("passwd", "group"):
        path = bundle.rootfs / "etc" / name
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "endless":
            with open(path, "wb") as file:
                file.truncate(4 << 30)
        elif kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to("/../../../../../etc/shadow")
        elif kind == "device":
            os.mknod(path, 0o020666, os.makedev(1, 5))  # zero
    bundle.edit(lambda config: config["process"].update(user={"uid": 1000, "gid": 1000}))
    before = time.monotonic()
    result = run(ctk, bundle.args("/bin/grep", "Uid", "/proc/self/status"), timeout=20)
    assert time.monotonic() - before < 3
    assert result.ok().out.split()[-1] == "1000"


def signals(text: str) -> set[int]:
    # Not 32 and 33: glibc, whose own they are, has them ignored in what posix_spawn(3) starts.
    kept = ~(0b11 << 31)
    return {int(line.split()[1], 16) & kept for line in text.splitlines() if line.startswith(("SigIgn", "SigBlk"))}


def test_e7_signals_are_as_a_program_expects(bundle: Bundle, ctk: Command) -> None:
    """CPython ignores SIGPIPE and SIGXFSZ; a caller may block and ignore more."""

    def hostile() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    script = ("/bin/grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    for keywords in ({}, {"preexec_fn": hostile}):
        assert signals(run(ctk, bundle.args(*script), **keywords).ok().out) == {0}
        with running(ctk, bundle.sh("sleep 1000")) as name:
            assert signals(ctk("exec", name, *script, **keywords).ok().out) == {0}
    dump = bundle.path / "hook"
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"grep -E 'Sig(Ign|Blk)' /proc/self/status > {dump}; cat > /dev/null"],
    }
    for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        document = {kind: [hook]}
        run(ctk, bundle.edit(lambda config, document=document: config.update(hooks=document)).sh("true")).ok()
        assert signals(dump.read_text()) == {0}, kind
        dump.unlink()


def test_e8_one_thread(bundle: Bundle, ctk: Command) -> None:
    with running(ctk, bundle.sh("sleep 1000"), created=True) as name:
        assert len(os.listdir(f"/proc/{pid_of(ctk, name)}/task")) == 1


HELPERS = ["xz", "zstd", "gzip", "tar", "newuidmap", "newgidmap", "nsenter", "iptables", "nft", "criu", "ip", "ps",
           "mount", "umount", "modprobe", "python3", "sh", "getent", "systemctl", "apparmor_parser", "env"]  # fmt: skip


def planted(folder: Path, marker: str) -> None:
    for name in HELPERS:
        path = folder / name
        if path.is_symlink() or path.exists():
            path.unlink()
        path.write_text(f"#!/bin/busybox sh\necho {name} >> {marker}\n")
        path.chmod(0o755)


def test_s12_s24_no_program_of_the_container_is_run_for_the_host(bundle: Bundle, ctk: Command) -> None:
    for folder in ("usr/bin", "usr/sbin", "sbin"):
        planted(bundle.rootfs / folder, "/run-for-the-host")
    bundle.edit(lambda config: config["process"]["env"].append("PATH=/bin"))
    with running(ctk, bundle.sh("sleep 1000")) as name:
        for verb in (
            ("ps", name),
            ("events", "--stats", name),
            ("state", name),
            ("list",),
            ("pause", name),
            ("resume", name),
        ):
            ctk(*verb).ok()
        ctk("exec", name, "true").ok()
        ctk("checkpoint", "--image-path", str(bundle.path / "image"), "--leave-running", name)
    assert not (bundle.rootfs / "run-for-the-host").exists() and not Path("/run-for-the-host").exists()


def test_s24_hooks_see_nothing_of_the_image(bundle: Bundle, ctk: Command) -> None:
    """NVIDIA CVE-2025-23266: LD_PRELOAD from the image, relative to a working folder in the root."""
    image = ["LD_PRELOAD=/proc/self/cwd/evil.so", "PYTHONPATH=/proc/self/cwd", "BASH_ENV=/evil", "GCONV_PATH=/evil",
             "LOCPATH=/evil", "PATH=/proc/self/cwd:/bin"]  # fmt: skip
    dump = bundle.path / "dump"
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"(env; pwd; readlink /proc/self/cwd) >> {dump}; cat >> {dump}"],
        "env": ["OWN=1"],
    }
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")

    def change(config: dict[str, Any]) -> None:
        config["process"]["env"] = image
        config["hooks"] = {kind: [hook] for kind in kinds}

    run(ctk, bundle.edit(change).sh("true")).ok()
    said = dump.read_text()
    assert said.count("OWN=1") == len(kinds)
    for word in ("LD_PRELOAD", "PYTHONPATH", "BASH_ENV", "GCONV_PATH", "LOCPATH", "/proc/self/cwd"):
        assert word not in said
    assert str(bundle.rootfs) not in {line for line in said.splitlines() if line.startswith("/")}


def test_s8_an_images_annotations_write_no_file(bundle: Bundle, ctk: Command, tmp_path: Path, canary: Canary) -> None:
    """podman copies an image's annotations into config.json: run.oci.hooks.stdout must not name a file of the host."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo PAYLOAD; cat > /dev/null"]}
    fresh, own = canary.path / "new", tmp_path / "own"
    own.write_text("")
    own.chmod(0o600)
    shared = tmp_path / "shared"
    shared.write_text("")
    shared.chmod(0o644)

    def written(path: "Path | str") -> int:
        annotations = {"run.oci.hooks.stdout": str(path)}
        bundle.edit(lambda config: config.update(annotations=annotations, hooks={"createRuntime": [hook]}))
        return run(ctk, bundle.sh("true")).rc

    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    for path in (
        fresh,
        canary.path / "marker",
        shared,
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/cad_pid",
        "/dev/null",
    ):
        assert written(path) == 1, path
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern
    assert not fresh.exists() and shared.read_text() == ""
    assert written(own) == 0 and own.read_text() == "PAYLOAD\n"
    assert ctk("features").json()["potentiallyUnsafeConfigAnnotations"].count("run.oci.hooks.") == 1


def test_e12_the_program_is_looked_up_in_the_container(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    only_here = tmp_path / "bin"
    only_here.mkdir()
    (only_here / "hostonly").write_text("#!/bin/sh\necho HOST\n")
    (only_here / "hostonly").chmod(0o755)
    path = {"PATH": f"{only_here}:{os.environ['PATH']}"}
    result = run(ctk, bundle.args("hostonly"), env=path)
    assert result.rc != 0 and "HOST" not in result.out and "executable file not found in $PATH" in result.err
    with running(ctk, bundle.sh("sleep 1000")) as name:
        result = ctk("exec", name, "hostonly", env=path)
        assert result.rc != 0 and "HOST" not in result.out
    # The first that may be executed is taken, in the container's order; one that may not be is passed over.
    for folder, mode in (("usr/bin", 0o644), ("usr/sbin", 0o755), ("sbin", 0o755)):
        (bundle.rootfs / folder / "mine").write_text(f"#!/bin/sh\necho {folder}\n")
        (bundle.rootfs / folder / "mine").chmod(mode)
    bundle.edit(lambda config: config["process"].update(env=["PATH=/usr/bin:/usr/sbin:/sbin"]))
    assert run(ctk, bundle.args("mine")).ok().out == "usr/sbin\n"


def test_e15_helpers_are_not_looked_up_by_the_callers_path(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    marker = tmp_path / "marker"
    for name in HELPERS:
        if name in ("python3", "sh", "env"):
            continue  # the shell that starts ctk is the caller's
        (evil / name).write_text(f"#!/bin/sh\necho {name} >> {marker}\nexit 1\n")
        (evil / name).chmod(0o755)
    path = {"PATH": f"{evil}:{os.environ['PATH']}"}
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(bundle.sh("sleep 1000")), name, env=path).ok()
    try:
        for verb in (
            ("ps", name),
            ("events", "--stats", name),
            ("exec", name, "true"),
            ("pause", name),
            ("resume", name),
        ):
            ctk(*verb, env=path).ok()
        ctk("checkpoint", "--image-path", str(tmp_path / "image"), "--leave-running", name, env=path)
    finally:
        ctk("delete", "--force", name, env=path).ok()
    assert not marker.exists(), marker.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_ms", [5, 15, 20, 25, 30, 40, 60])
def test_e17_signals_while_a_container_is_made(number: int, after_ms: int, bundle: Bundle, ctk: Command) -> None:
    """Whatever stops `create` half-way: delete --force clears it away, and the id can be used at once."""
    name = ctk.id()
    with open(os.devnull, "r+b") as null:
        process = ctk.popen("create", "--bundle", str(bundle.sh("sleep 1000")), name, stdout=null, stderr=null)
        time.sleep(after_ms / 1000)
        process.send_signal(number)
        process.wait(20)
    ctk("delete", "--force", name).ok()
    assert ctk("list", "-q").ok().out.split() == []
    assert ctk("state", name).rc == 1
    run(ctk, bundle.args("/bin/true")).ok()
