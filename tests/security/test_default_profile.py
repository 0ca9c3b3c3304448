"""`ctk spec --seccomp default`: it bites where it should (S16, S41), and what people run runs under it."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command, tool
from tests.fixtures.debian import Mirror

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

# Each line: a name and the errno of the call, 0 for success.
PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void told(const char *name, long r) { printf("%s %d\n", name, r < 0 ? errno : 0); fflush(stdout); }
static void ended(const char *name, void (*act)(void))
{
	int status;
	pid_t pid = fork();
	if (pid == 0) { act(); _exit(0); }
	waitpid(pid, &status, 0);
	printf("%s %s\n", name, WIFSIGNALED(status) ? "killed" : "lived");
	fflush(stdout);
}
#ifdef __x86_64__
static void x32(void) { syscall(0x40000000 + SYS_getpid); }
static long old(long number, long first)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(number), "b"(first), "c"(0), "d"(0) : "memory");
	if (r < 0) { errno = -r; return -1; }
	return r;
}
#endif
int main(void)
{
	told("inet", syscall(SYS_socket, 2, 1, 0));
	told("unix", syscall(SYS_socket, 1, 1, 0));
	told("netlink", syscall(SYS_socket, 16, 3, 0));
	told("alg", syscall(SYS_socket, 38, 5, 0));
	told("alg-high-bits", syscall(SYS_socket, 0x100000026L, 5, 0));
	told("vsock", syscall(SYS_socket, 40, 1, 0));
	told("huge-family", syscall(SYS_socket, 1000, 1, 0));
	told("unknown", syscall(9999, 0));
	told("clone3", syscall(SYS_clone3, 0, 0));
	told("unshare", syscall(SYS_unshare, 0x10000000));
	told("clone-newuser", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
	told("keyctl", syscall(SYS_keyctl, 0, 0));
	told("io_uring", syscall(SYS_io_uring_setup, 1, 0));
	told("userfaultfd", syscall(SYS_userfaultfd, 0));
	told("bpf", syscall(SYS_bpf, 0, 0, 0));
	told("personality", syscall(SYS_personality, 0x0040000));
	told("ask-personality", syscall(SYS_personality, 0xffffffff));
	told("getpid", syscall(SYS_getpid));
#ifdef __x86_64__
	told("socketcall", old(102, 1));
	told("getpid-32", old(20, 0));
	ended("x32", x32);
#endif
	return 0;
}
"""
EPERM, ENOSYS = 1, 38


@pytest.fixture
def probe(busybox_bundle: Bundle, tmp_path: Path) -> Bundle:
    source = tmp_path / "probe.c"
    source.write_text(PROBE)
    subprocess.run([tool("gcc"), "-static", "-O1", "-w", "-o", busybox_bundle.rootfs / "bin/probe", source], check=True)
    return busybox_bundle


def answers(ctk: Command, bundle: Bundle, *options: str) -> dict[str, str]:
    ctk("spec", "--update", "--seccomp", "default", *options, "--no-tty", "--", "/bin/probe", cwd=str(bundle)).ok()
    out = ctk("run", ctk.id(), cwd=str(bundle)).ok().out
    return dict(line.split() for line in out.splitlines())


def test_it_bites(ctk: Command, probe: Bundle) -> None:
    found = answers(ctk, probe)
    for name in ("inet", "unix", "netlink", "getpid", "ask-personality"):
        assert found[name] == "0", (name, found)
    for name in ("alg", "alg-high-bits", "vsock", "huge-family", "unshare", "clone-newuser", "keyctl", "io_uring"):
        assert found[name] == str(EPERM), (name, found)
    for name in ("userfaultfd", "bpf", "personality"):
        assert found[name] == str(EPERM), (name, found)
    for name in ("unknown", "clone3"):
        assert found[name] == str(ENOSYS), (name, found)
    if platform.machine() == "x86_64":
        assert found["socketcall"] in (str(EPERM), str(ENOSYS)) and found["x32"] == "killed"
        if found["getpid-32"] != str(ENOSYS):  # the kernel has 32-bit emulation
            assert found["getpid-32"] == "0"


def test_capabilities_open_what_they_guard(ctk: Command, probe: Bundle) -> None:
    found = answers(ctk, probe, "--cap-add", "SYS_ADMIN")
    assert found["unshare"] == "0" and found["clone3"] != str(ENOSYS)
    assert found["alg"] == str(EPERM) and found["keyctl"] == str(EPERM)
    assert answers(ctk, probe, "--cap-drop", "SYS_ADMIN")["unshare"] == str(EPERM)


def test_without_it_they_succeed(ctk: Command, probe: Bundle) -> None:
    """The probe can tell the difference: what is refused above is the profile's doing."""
    ctk("spec", "--update", "--seccomp", "unconfined", "--no-tty", "--", "/bin/probe", cwd=str(probe)).ok()
    found = dict(line.split() for line in ctk("run", ctk.id(), cwd=str(probe)).ok().out.splitlines())
    assert found["unshare"] == "0" and found["personality"] == "0" and found["clone3"] not in (str(ENOSYS), str(EPERM))


def test_a_program_in_go_runs(ctk: Command, busybox_bundle: Bundle) -> None:
    """Go makes its threads, timers and signals by system calls of its own."""
    program = tool("containerd-shim-runc-v2")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+\.so\S*)", listed):
        target = busybox_bundle.rootfs / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), target)
    shutil.copy(program, busybox_bundle.rootfs / "bin/program")
    ctk(
        "spec", "--update", "--seccomp", "default", "--no-tty", "--", "/bin/program", "-v", cwd=str(busybox_bundle)
    ).ok()
    assert "Go version" in ctk("run", ctk.id(), cwd=str(busybox_bundle)).ok().out


@pytest.mark.archive
def test_apt_bash_and_python_run(
    ctk: Command, made_root: Callable[[str], Path], debian_mirror: Mirror, tmp_path: Path
) -> None:
    script = f"""set -eu
echo 'deb {debian_mirror.url} bookworm main' > /etc/apt/sources.list
apt-get -o Acquire::Check-Valid-Until=false update >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-minimal >/dev/null 2>&1
python3 -c 'import subprocess, sys; sys.exit(subprocess.run(["true"]).returncode)'
coproc cat; echo through >&"${{COPROC[1]}}"; read -r line <&"${{COPROC[0]}}"; echo "$line"
grep Seccomp: /proc/self/status; cat <(echo substituted)
"""
    words = ["--rootfs", str(made_root("bookworm")), "--writable", "--share-net", "--seccomp", "default", "--no-tty"]
    ctk("spec", "--bundle", str(tmp_path), *words, "--", "bash", "-c", script).ok()
    done = ctk("run", "--ephemeral", ctk.id(), cwd=str(tmp_path), timeout=200)
    assert (done.rc, done.out) == (0, "through\nSeccomp:\t2\nsubstituted\n"), done.err


def test_it_is_what_a_file_could_say(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    ctk("spec", "--update", "--security-opt", "seccomp=default", cwd=str(busybox_bundle)).ok()
    profile = busybox_bundle.load()["linux"]["seccomp"]
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    ctk("spec", "--update", "--seccomp", str(tmp_path / "profile.json"), cwd=str(busybox_bundle)).ok()
    assert busybox_bundle.load()["linux"]["seccomp"] == profile
    ctk("spec", "--update", "--seccomp", "unconfined", cwd=str(busybox_bundle)).ok()
    assert "seccomp" not in busybox_bundle.load()["linux"]
