"""What the themes' programs share: cases, bundles and `ctk`. Runs in the guest, on the standard library alone."""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.oci.defaults import default_spec

Facts = dict[str, Any]
CTK = "/usr/local/bin/ctk"
APPLETS = (
    "sh cat cut dd echo head id ls mknod mkdir mount readlink sleep stat true touch grep wc timeout env ps kill tr"
).split()
MB = 1 << 20

ALONE = "--case"  # before the name of the only case to run

_cases: dict[str, Callable[[], Facts]] = {}
_rare: set[str] = set()
HOME = Path(os.environ.get("HOME", "/root"))
# A container's root may be any of the host's ids: it must be able to get here, and /root is closed to others.
_work = Path("/srv/room") if os.geteuid() == 0 else HOME / "room"


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def facts(self) -> Facts:
        return {"code": self.code, "out": self.out, "err": self.err}

    def ok(self) -> "Done":
        if self.code:
            raise RuntimeError(f"exit {self.code}\n{self.out}{self.err}")
        return self


def case(function: Callable[[], Facts]) -> Callable[[], Facts]:
    """Make a function a case of this theme: it returns what it saw."""
    _cases[function.__name__] = function
    return function


def rare(function: Callable[[], Facts]) -> Callable[[], Facts]:
    """The same for one of the tests that are marked slow: it runs only by its name."""
    _rare.add(function.__name__)
    return case(function)


def main(prepare: "Callable[[], object] | None" = None) -> None:
    """Run all cases, or the one that is named, and print their facts; what goes wrong in one is its fact 'error'."""
    if prepare is not None:
        prepare()
    names = sys.argv[-1:] if ALONE in sys.argv else [name for name in _cases if name not in _rare]
    seen: Facts = {}
    for name in names:
        function = _cases[name]
        started = time.monotonic()
        try:
            facts = function()
        except Exception:
            facts = {"error": traceback.format_exc()}
        facts["seconds"] = round(time.monotonic() - started, 1)
        seen[name] = facts
    print(json.dumps(seen))


def run(*argv: str, input: str = "", cwd: "Path | None" = None, timeout_s: float = 90) -> Done:
    """Run to the end. Output goes through files: a detached container must not hold our pipes."""
    # Not tempfile.TemporaryFile: it opens with O_NOFOLLOW, which stays with the file, and CRIU can't restore such a
    # stream (criu/files-reg.c opens /proc/self/fd/N again with the same flags).
    with tempfile.TemporaryDirectory() as folder:
        streams = [f"{folder}/{name}" for name in ("in", "out", "err")]
        Path(streams[0]).write_text(input)
        with open(streams[0]) as stdin, open(streams[1], "w") as out, open(streams[2], "w") as err:
            code = subprocess.run(argv, stdin=stdin, stdout=out, stderr=err, cwd=cwd, timeout=timeout_s).returncode
        return Done(code, *(Path(stream).read_text(errors="replace") for stream in streams[1:]))


class Runtime:
    """`ctk` with its global options."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def __call__(self, *words: str, input: str = "") -> Done:
        return run(CTK, *self.options, *words, input=input)

    def told(self, name: str) -> Facts:
        """What `state` prints; each call takes most of a second here."""
        facts: Facts = json.loads(self("state", name).ok().out)
        return facts

    def state(self, name: str) -> str:
        return str(self.told(name)["status"])

    def pid(self, name: str) -> int:
        return int(self.told(name)["pid"])


def root_folder() -> Path:
    """A root file system of one static busybox, made once; containers share it and may not write to it."""
    root = _work / "rootfs"
    if not root.exists():
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "mnt", "run"):
            (root / folder).mkdir(parents=True)
        (root / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
        (root / "bin/busybox").chmod(0o755)
        for name in APPLETS:
            (root / "bin" / name).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        (root / "etc/secret").write_text("secret\n")
    return root


def spec(script: str, rootless: bool = False) -> Facts:
    """The default spec for a shell script, with a cgroup namespace and a /tmp to write to."""
    config: Facts = copy.deepcopy(default_spec(rootless))
    config["process"].update(terminal=False, args=["/bin/sh", "-c", script])
    config["root"] = {"path": str(root_folder()), "readonly": True}
    if {"type": "cgroup"} not in config["linux"]["namespaces"]:
        config["linux"]["namespaces"].append({"type": "cgroup"})
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
    return config


def bundle(name: str, config: Facts) -> str:
    """A bundle folder with that config.json."""
    folder = _work / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def until(question: Callable[[], object], timeout_s: float = 20) -> bool:
    """Ask until the answer is yes; whether it was in time."""
    end = time.monotonic() + timeout_s
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def read(path: "str | Path") -> str:
    return Path(path).read_text().strip()


def cgroup(pid: "int | str") -> Path:
    """The cgroup of a process, in the file system."""
    return Path("/sys/fs/cgroup" + read(f"/proc/{pid}/cgroup").partition("::")[2])
