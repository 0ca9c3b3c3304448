"""No value of config.json is ever executed by the script of its launch: it is carried out with stand-ins for programs.

The stand-ins do nothing, but those that start a shell start the script's own next part; the shell's builtins, its
expansions and its redirections are real. A value that gets out of its word leaves a mark.
"""

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import CtkError
from toolkit.explain import launch, script, script_program
from toolkit.oci import defaults

STAND_IN = """#!/bin/dash
case ${0##*/} in
  mktemp) /bin/mkdir "$ROOM/work.$$"; echo "$ROOM/work.$$"; exit ;;
  mkfifo) exec /usr/bin/mkfifo "$@" ;;
  cat) exec /bin/cat "$@" ;;
  script) while [ "$1" != -c ]; do shift; done; exec /bin/dash -c "$2" ;;
esac
case ${0##*/} in unshare|nsenter|setpriv|prlimit|setarch|env)
  while [ $# -gt 0 ]; do case $1 in
    sh|/bin/sh) shift; exec /bin/dash "$@" ;;
    unshare|nsenter|setpriv|prlimit|setarch|env) exec "$@" ;;
  esac; shift; done ;;
esac
"""
PROGRAMS = (
    "mktemp mkfifo rm rmdir mkdir mount umount mknod chown chmod ln cat stat touch cp nsenter unshare setpriv prlimit "
    "setarch env pivot_root chrt renice ionice ip timeout script stty tty setsid"
)


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """Where anybody may write: the scripts run as nobody."""
    path = Path(tempfile.mkdtemp(prefix="ctk-script-", dir="/tmp"))
    (path / "bin").mkdir()
    (path / "stand-in").write_text(STAND_IN)
    (path / "stand-in").chmod(0o755)
    for name in PROGRAMS.split():
        (path / "bin" / name).symlink_to(path / "stand-in")
    (path / "bin/sh").symlink_to("/bin/dash")
    for folder in (path, path / "bin"):
        folder.chmod(0o777)
    yield path
    shutil.rmtree(path)


# Where a text stands in a document: the path to it, and what goes before it there.
PLACES: tuple[tuple[tuple[str | int, ...], str], ...] = (
    (("hostname",), ""), (("domainname",), ""), (("root", "path"), "r"), (("process", "cwd"), "/"),
    (("process", "args", 0), ""), (("process", "args", 1), ""), (("process", "env", 1), "NAME="),
    (("process", "env", 2), "n"), (("process", "apparmorProfile"), ""), (("process", "selinuxLabel"), ""),
    (("mounts", 3, "source"), ""), (("mounts", 3, "destination"), "/"), (("mounts", 3, "type"), ""),
    (("mounts", 3, "options", 0), ""), (("mounts", 1, "options", 1), "size="), (("mounts", 6, "options", 1), ""),
    (("mounts", 7, "source"), "/"), (("mounts", 7, "destination"), "/"), (("mounts", 7, "options", 1), ""),
    (("linux", "cgroupsPath"), "/"), (("linux", "maskedPaths", 0), "/"), (("linux", "readonlyPaths", 0), "/"),
    (("linux", "devices", 0, "path"), "/dev/"), (("linux", "sysctl", "net.ipv4.ip_forward"), ""),
    (("linux", "mountLabel"), ""), (("linux", "resources", "cpu", "cpus"), ""),
    (("linux", "resources", "unified", "memory.high"), ""), (("linux", "namespaces", 1, "path"), "/"),
    (("linux", "netDevices", "eth0", "name"), ""), (("annotations", "a"), ""),
    *((("hooks", kind, 0, key, *place), before)
      for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
      for key, place, before in (("path", (), "/no/"), ("args", (1,), ""), ("env", (0,), "A="))),
)  # fmt: skip


def document(*, user: bool, terminal: bool) -> dict[str, Any]:
    hook = {"path": "/no/such", "args": ["x", "y"], "env": ["A=1"], "timeout": 3}
    spec = copy.deepcopy(defaults.default_spec())
    spec["process"] |= {"terminal": terminal, "args": ["/no/program", "x"], "env": ["PATH=/none", "B=1", "c.d=2"]}
    spec["mounts"].append({"destination": "/b", "source": "/srv", "type": "bind", "options": ["rbind", "ro"]})
    spec["hooks"] = {
        kind: [dict(hook)]
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    }
    spec["linux"] |= {
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "netDevices": {"eth0": {"name": "e"}},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    }
    spec["linux"]["resources"] |= {"cpu": {"cpus": "0"}}
    if user:
        lines = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"] |= {"uidMappings": lines, "gidMappings": lines}
    return spec


def put(spec: dict[str, Any], place: tuple[str | int, ...], text: str) -> None:
    at: Any = spec
    for key, following in pairwise(place):
        made: Any = [] if isinstance(following, int) else {}
        at = at.setdefault(key, made) if isinstance(at, dict) else at[key]
    last = place[-1]
    if isinstance(at, list) and isinstance(last, int) and last >= len(at):
        at.append(text)
    else:
        at[last] = text


def carried_out(room: Path, bundle: Path, spec: dict[str, Any]) -> bool:
    """Write the script of this document and run it; False where there is none. Fails if a value was executed."""
    (bundle / "config.json").write_text(json.dumps(spec))
    try:
        text = script.write(launch.of(str(bundle), "evil"))
    except CtkError:
        return False
    (room / "mark").write_text("")
    (room / "mark").chmod(0o666)
    own = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    # Without -e: what a stand-in leaves undone ends nothing, so that all lines are reached.
    subprocess.run(
        ["/bin/dash"],
        input=text.replace("set -eu", "set +e").encode("utf-8", "surrogateescape"),
        env={"PATH": str(room / "bin"), "ROOM": str(room)},
        cwd=room,
        capture_output=True,
        timeout=20,
        **own,  # type: ignore[call-overload]
    )
    assert (room / "mark").read_text() == "", text
    return True


def fragments(room: Path) -> list[str]:
    do = f"echo x >>{room}/mark"
    return [f"$({do})", f"`{do}`", f";{do};", f"\n{do}\n", f"' {do} '", "'", '"', f'";{do};"', "\\", "\n", "INSIDE",
            "\nINSIDE\n)\n", "FIRST\n", "MAPPED\n", "$root", "${x:-", "}", ")", "-", "=", ",", " ",
            f"|{do}|", "&", "#"]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(room: Path) -> Path:
    path = room / "bundle'$(echo x >>mark)"
    (path / "rootfs").mkdir(parents=True)
    return path


def test_the_mark_is_made_by_what_gets_out(room: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with a quoting that does nothing the same document is executed."""
    spec = document(user=False, terminal=False)
    spec["hostname"] = f"$(echo x >>{room}/mark)"
    monkeypatch.setattr("toolkit.runtime.shell_words.word", lambda text: text)
    with pytest.raises(AssertionError):
        carried_out(room, bundle, spec)


@pytest.mark.parametrize("kind", ["plain", "user", "terminal"])
def test_each_place_with_each_way_out(room: Path, bundle: Path, kind: str) -> None:
    """All ways out at once in each place; hypothesis below mixes them."""
    ways = fragments(room)
    spec = document(user=kind == "user", terminal=kind == "terminal")
    assert carried_out(room, bundle, spec)
    done = 0
    whole = "".join(ways[:7])
    together = copy.deepcopy(spec)
    for place, before in PLACES:
        changed = copy.deepcopy(together)
        put(changed, place, before + whole)
        (bundle / "config.json").write_text(json.dumps(changed))
        try:
            script.write(launch.of(str(bundle), "evil"))
        except CtkError:
            continue
        together, done = changed, done + 1
    assert done > 30, "too few places take any text"
    assert carried_out(room, bundle, together)


def test_no_value_is_executed(room: Path, bundle: Path) -> None:
    seen = [0, 0]
    text = st.lists(st.sampled_from(fragments(room)), min_size=1, max_size=5).map("".join)

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(range(len(PLACES))), text, min_size=4, max_size=12), st.booleans())
    def told(chosen: dict[int, str], user: bool) -> None:
        spec = document(user=user, terminal=False)
        for number, value in chosen.items():
            before = copy.deepcopy(spec)
            place, front = PLACES[number]
            put(spec, place, front + value)
            (bundle / "config.json").write_text(json.dumps(spec))
            try:
                script.write(launch.of(str(bundle), "evil"))
            except CtkError:
                spec = before  # no text for this place
        seen[carried_out(room, bundle, spec)] += 1

    told()
    assert seen[1] > 10


def of_document(bundle: Path, change: Callable[[dict[str, Any]], object]) -> str:
    spec = document(user=False, terminal=False)
    change(spec)
    (bundle / "config.json").write_text(json.dumps(spec))
    return script.write(launch.of(str(bundle), "evil"))


def test_no_variable_of_the_containers_reaches_a_program_of_the_host(bundle: Path) -> None:
    """PATH would choose the `sh` that waits, LD_PRELOAD what is in it, and bash runs functions that it is handed."""
    evil = ["PATH=/evil", "LD_PRELOAD=/evil.so", "BASH_FUNC_read%%=() { evil; }", "ENV=/evil", "a.b=1"]
    text = of_document(bundle, lambda c: c["process"].update(env=evil))
    (line,) = [line for line in text.splitlines() if line.strip().startswith("env -i") and "&&" not in line]
    assert line.split() == ["env", "-i", "a.b=1", "\\"]
    assert "Left out: the variables BASH_FUNC_read%%" in text
    assert script_program.exported(evil) == ["PATH=/evil", "LD_PRELOAD=/evil.so", "ENV=/evil"]


def test_a_file_systems_name_chooses_no_program(bundle: Path) -> None:
    """mount(8) runs /sbin/mount.TYPE, and mount.fuse its source, by a shell."""
    text = of_document(bundle, lambda c: c["mounts"][3].update(type="fuse", source="touch#x"))
    assert "mount -t fuse -i " in text
    text = of_document(bundle, lambda c: c["mounts"][3].update(source="--help"))
    assert " -- --help " in text


def test_dots_in_a_path_stay_in_the_root(bundle: Path) -> None:
    text = of_document(bundle, lambda c: c["mounts"][3].update(destination="/../../etc/x"))
    assert '"$root/etc/x"' in text and "$root/.." not in text
    text = of_document(bundle, lambda c: c["linux"].update(maskedPaths=["/../../etc"]))
    assert "for path in /etc; do" in text
