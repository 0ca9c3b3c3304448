"""A container that looks, with CAP_SYS_PTRACE, at every process of ours that enters its user namespace (S47, E2).

Such a process still has the host's root and files. The container's root is a user of the host's, and in a pod or in the
host's pid namespace it sees us: only that we are undumpable keeps it out, from before we are in its namespace.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import user
from tests.fixtures.command import Bundle, Command, tool

pytestmark = pytest.mark.root

# `cp` is kept waiting for its tar, so that there is time to look at its helper.
_SCRIPT = """
    set -u; umask 022; export CTK_ROOT={root}
    trap 'ctk delete --force {name}' EXIT
    ctk run -d -b {bundle} {name} > {out} 2>&1 || { cat {out}; exit 1; }
    until grep -q ready {out}; do sleep 0.05; done
    pid=$(ctk state {name} | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')
    for n in 1 2 3 4 5 6 7 8; do ctk exec {name} /bin/true || exit 1; done
    echo exec $(grep caught {out})
    (sleep 0.7) | ctk cp - {name}:/tmp 2>/dev/null
    echo cp $(grep caught {out})
    for kind in plain offsets; do
        sed "s,PID,$pid,g" {mate}/$kind.json > {mate}/config.json
        for n in 1 2 3 4 5; do ctk run -b {mate} {name}-$kind-$n || exit 1; done
        echo $kind $(grep caught {out})
    done
"""


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("look") / "look"
    source = Path(__file__).parent / "look.c"
    subprocess.run([tool("gcc"), "-O1", "-static", "-o", str(program), str(source)], check=True)
    return program


def _watching(config: dict[str, Any], secret: Path, owner: int, pids: str) -> None:
    config["root"]["readonly"] = False
    config["process"]["args"] = ["/bin/look", str(secret)]
    able = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), able)
    linux = config["linux"]
    linux.update(maskedPaths=[], readonlyPaths=[], resources={})
    linux["namespaces"] = [{"type": kind} for kind in ("user", "mount", "ipc", "uts", "pid")]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": owner, "size": 1}]
    proc: dict[str, Any] = {"destination": "/proc", "type": "proc", "source": "proc"}
    if pids == "host":
        linux["namespaces"].pop()
        proc = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    config["mounts"] = [proc]


def _pod_mate(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """A second container in the first one's user namespace, and in its pid namespace if it has one."""
    mate: dict[str, Any] = json.loads(json.dumps(config))
    mate["process"]["args"] = ["/bin/true"]
    mate["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    linux = mate["linux"]
    del linux["uidMappings"], linux["gidMappings"]
    for entry in linux["namespaces"]:
        if entry["type"] in ("user", "pid"):
            entry["path"] = f"/proc/PID/ns/{entry['type']}"
    if kind == "offsets":
        linux["namespaces"].append({"type": "time"})
        linux["timeOffsets"] = {"boottime": {"secs": 3}}
    return mate


@pytest.mark.parametrize("pids", ["own", "host"])
@pytest.mark.parametrize("owner", ["user", "mapped root"])
def test_s47_nothing_of_ours_can_be_looked_into(
    owner: str, pids: str, bundle: Bundle, look: Path, ctk: Command, tmp_path: Path
) -> None:
    """exec, cp's helper, startContainer hooks, and the start of a second container, also with timeOffsets."""
    uid = user.ID if owner == "user" else 0
    shutil.copy(look, bundle.rootfs / "bin/look")
    (tmp_path / "home").mkdir(mode=0o700)
    secret = tmp_path / "home/secret"
    secret.write_text("of the host")
    bundle.edit(lambda config: _watching(config, secret, uid, pids))
    mate = tmp_path / "mate"
    mate.mkdir()
    shutil.copytree(bundle.rootfs, mate / "rootfs", symlinks=True)
    for kind in ("plain", "offsets"):
        (mate / f"{kind}.json").write_text(json.dumps(_pod_mate(bundle.load(), kind)))
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    words = {"root": tmp_path / "run", "bundle": bundle, "mate": mate, "out": tmp_path / "out", "name": ctk.id()}
    text = _SCRIPT
    for name, value in words.items():
        text = text.replace("{" + name + "}", str(value))
    as_user = user.prefix(str(tmp_path), os.path.dirname(ctk.program)) if uid else []
    path = f"{os.path.dirname(ctk.program)}:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**ctk.environment, "PATH": path, "XDG_RUNTIME_DIR": str(tmp_path)}
    with (tmp_path / "said").open("w+") as said:
        argv = [*as_user, "/bin/sh", "-c", text]
        subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=60)
        said.seek(0)
        assert said.read() == "exec\ncp\nplain\noffsets\n"
