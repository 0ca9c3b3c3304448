"""What ctk does around containers: the cgroup that a recipe runs in, and the doctor. As root, and as a user."""

import json
import os
import subprocess
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case, rare
from toolkit.care.recipe_group import RecipeGroup

ctk = Runtime()
ROOT = os.geteuid() == 0
OWN = room.cgroup("self")
as_root, as_user = (case, rare) if ROOT else (rare, case)
PAGE = """\
# A page of the tests

<!-- minutes: 1 -->

## One section

```console
{sign} cat /proc/self/cgroup > shell
{sign} setsid sleep 4321 > /dev/null 2>&1 &
{sign} sleep 1; pgrep -fx 'sleep 4321' > sleeper
{sign} ctk run -d --pid-file pid -b {bundle} inside
{sign} cat /proc/$(cat pid)/cgroup > container
{sign} cat /sys/fs/cgroup$(cut -d: -f3 container)/memory.max > limit
{sign} cp shell sleeper container limit {out}
{sign} ctk delete --force inside
```

```console cleanup
{sign} rm shell sleeper pid container limit
```
"""


@as_user
def played() -> Facts:
    """A page whose shells and container say where they are; one process is left behind, and nobody ends it."""
    out = room.HOME / "seen"
    out.mkdir(exist_ok=True)
    made = room.spec("sleep 100", rootless=not ROOT)
    made["linux"]["resources"] = {"memory": {"limit": 24 * MB}}
    page = room.HOME / "page.md"
    page.write_text(PAGE.format(sign="#" if ROOT else "$", bundle=room.bundle("inside", made), out=out))
    done = ctk("recipe", "run", str(page), "--yes")
    facts: Facts = {**done.facts(), "beside": str(OWN.parent).removeprefix("/sys/fs/cgroup")}
    facts |= {path.name: room.read(path) for path in out.iterdir()}
    facts["alive"] = os.path.exists(f"/proc/{facts['sleeper']}")
    facts["left"] = [str(path) for path in OWN.parent.glob("ctk-recipe*")]
    return facts


@case
def found_again() -> Facts:
    """Somebody else ends the run by what was written down; its process is in a frozen cgroup of its own."""
    group = RecipeGroup("ctk-recipe-again", {})
    process = subprocess.Popen(["sleep", "1000"])
    group.take(process.pid)
    shells = room.cgroup(process.pid)
    (shells / "inner").mkdir()
    (shells / "inner/cgroup.procs").write_text(str(process.pid))
    (shells / "inner/cgroup.freeze").write_text("1")
    frozen = room.until(lambda: "frozen 1" in room.read(shells / "inner/cgroup.events"), 10)
    whole = Path(json.loads(json.dumps(group.place))["path"])
    RecipeGroup("of another name", json.loads(json.dumps(group.place))).end()
    return {
        "shells": str(shells.parent),
        "whole": str(whole),
        "beside": str(OWN.parent),
        "frozen": frozen,
        "ended": process.wait(10),
        "left": whole.exists(),
    }


@as_root
def doctor() -> Facts:
    """This guest has no `requests`: doctor says so, and goes on; a build says so, and leaves nothing."""
    target = room.HOME / "fs"
    return {
        "all": ctk("doctor").facts(),
        "build": ctk("bootstrap", "trixie", str(target)).facts(),
        "left": target.exists(),
    }


if __name__ == "__main__":
    room.main()
