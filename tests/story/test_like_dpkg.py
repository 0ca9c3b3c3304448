"""What dpkg makes of packages at unpack, ctk makes as well: docs/unpacking.md row by row, and random sets of toys.

The oracle is dpkg itself in a scratch root, called as debootstrap calls it (tests/fixtures/toys.py).
"""

import importlib.machinery
import importlib.util
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.fixtures.toys import ASKS, SEES, Member, Scratch, Toy, dpkgs, ours, told
from toolkit.events import Note

pytestmark = pytest.mark.root

TOP = Path(__file__).parents[2]
LINK, FOLDER, FIFO, HARD = tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE
# Left by ctk and not by dpkg, or by the number of dpkg's runs.
APART = re.compile(
    r"(var/log|var/lib/dpkg/(available|.*-old|lock.*|triggers/(Lock|Unincorp)|cmethopt|updates|parts|alternatives|info/format)|root)"
)


def _compare_tree() -> Any:
    loader = importlib.machinery.SourceFileLoader("compare_tree", str(TOP / "scripts/compare-tree"))
    spec = importlib.util.spec_from_loader("compare_tree", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


compare_tree = _compare_tree()


def differences(one: Scratch, other: Scratch) -> list[str]:
    found = compare_tree.compare(str(one.root), str(other.root))
    return [
        line
        for line in found
        if not APART.match(line.rpartition(str(other.root) + ": ")[2].rpartition(str(one.root) + ": ")[2])
    ]


def folder(path: str, **more: Any) -> Member:
    return Member(f"./{path}/", FOLDER, mode=more.pop("mode", 0o755), **more)


def file(path: str, content: str, **more: Any) -> Member:
    return Member(f"./{path}", content=content, **more)


def link(path: str, target: str) -> Member:
    return Member(f"./{path}", LINK, target, mode=0o777)


def toy(
    name: str,
    *members: Member,
    replaces: str = "",
    needs: str = "",
    conffiles: str = "",
    preinst: str = "",
    postinst: str = "",
    own: bool = True,
    quiet: bool = False,
    **more: Any,
) -> Toy:
    """A package below /t, whose scripts note what they see."""
    fields = {key: value for key, value in (("Replaces", replaces), ("Pre-Depends", needs)) if value}
    scripts = {
        script: "#!/bin/sh -e\n" + ("" if quiet else SEES.format(name=name, script=script)) + text + "\n"
        for script, text in (("preinst", preinst), ("postinst", postinst))
    }
    if conffiles:
        scripts["conffiles"] = conffiles
    of_its_own = (folder(f"t/only-{name}"),) if own else ()
    return Toy(name, (Member("./", FOLDER, mode=0o755), folder("t"), *of_its_own, *members), fields, scripts, **more)


# Without scripts: debootstrap unpacks these two twice, the second time as an upgrade.
REQUIRED = tuple(
    Toy(name, (Member("./", FOLDER, mode=0o755), folder("t"), file(f"t/{short}", f"{short}\n")), version="1.21.22")
    for name, short in (("base-files", "base"), ("dpkg", "dpkg"))
)


def divert(name: str, path: str) -> str:
    return f'dpkg-divert --package {name} --divert "/{path}.distrib" --rename --add "/{path}" >/dev/null'


@dataclass(frozen=True)
class Row:
    """A row of the table: packages, and what then is in the tree (path: text, `-> target`, `U:G`, None for nothing)."""

    base: tuple[Toy, ...]
    shows: Mapping[str, "str | None"]
    required: tuple[Toy, ...] = ()
    options: tuple[str, ...] = ()
    warns: str = ""


A, B = file("t/f", "a\n"), file("t/f", "b\n")
ROWS = {
    "the later package has the path": Row(
        (toy("a", A), toy("b", B)), {"t/f": "b\n"}, warns="b 1 has taken '/t/f' from a 1"
    ),
    "the path of a required package": Row(
        (toy("b", B),), {"t/f": "b\n"}, (toy("ra", A),), warns="b 1 has taken '/t/f' from ra 1"
    ),
    "a Replaces, the replacing one later": Row((toy("a", A), toy("b", B, replaces="a")), {"t/f": "b\n"}),
    "a Replaces, the replacing one earlier": Row((toy("a", A, replaces="b (<< 2)"), toy("b", B)), {"t/f": "a\n"}),
    "a Replaces of other versions": Row(
        (toy("a", A, replaces="b (<< 1)"), toy("b", B)), {"t/f": "b\n"}, warns="has taken"
    ),
    "a Replaces among required packages": Row(
        (),
        {"t/f": "a\n", "t/g": "b\n"},
        (toy("ra", A, file("t/g", "a\n"), replaces="rb"), toy("rb", B), toy("rc", file("t/g", "b\n"), replaces="ra")),
    ),
    "a path of two required packages": Row(
        (),
        {"t/f": "b\n"},
        (toy("ra", A, quiet=True), toy("rb", B, quiet=True)),
        warns="rb 1 has taken '/t/f' from ra 1",
    ),
    "a diversion among required packages": Row(
        (),
        {"t/f": "a\n", "t/f.distrib": "b\n"},
        (toy("ra", A, quiet=True, preinst=divert("ra", "t/f")), toy("rb", B, quiet=True)),
    ),
    "a package that is replaced whole": Row((toy("a", A, own=False), toy("b", B, replaces="a")), {"t/f": "b\n"}),
    "a package that lists nothing of its own": Row((toy("a", own=False), toy("b", B), toy("c")), {"t/f": "b\n"}),
    "a diverted path of a later package": Row(
        (toy("a", A, preinst=divert("a", "t/f")), toy("b", B)), {"t/f": "a\n", "t/f.distrib": "b\n"}
    ),
    "a diverted path of an earlier package": Row(
        (toy("a", A), toy("b", B, preinst=divert("b", "t/f"))), {"t/f": "b\n", "t/f.distrib": "a\n"}
    ),
    "a path that nobody ships, diverted": Row(
        (toy("a", preinst=divert("a", "t/f")), toy("b", B)), {"t/f": None, "t/f.distrib": "b\n"}
    ),
    "a diversion that names no package": Row(
        (toy("a", preinst="dpkg-divert --local --no-rename --add /t/f >/dev/null"), toy("b", B)), {"t/f.distrib": "b\n"}
    ),
    "a statoverride": Row(
        (toy("a", preinst="dpkg-statoverride --add games mail 0640 /t/f"), toy("b", B, needs="a")),
        {"t/f": "games:mail"},
    ),
    "an owner by name": Row(
        (
            toy(
                "b", file("t/f", "b\n", owner=("games", "mail", 0, 1001)), folder("t/d", owner=("games", "games", 9, 9))
            ),
        ),
        {"t/f": "games:mail", "t/d": "games:games"},
    ),
    "an owner that nobody knows": Row(
        (toy("b", file("t/f", "b\n", owner=("nosuch", "nosuch", 1001, 1002))),), {"t/f": "1001:1002"}
    ),
    "an owner named root with another number": Row(
        (toy("b", file("t/f", "b\n", owner=("root", "root", 7, 7))),), {"t/f": "root:root"}
    ),
    "an owner by name of a required package": Row(
        (), {"t/f": "games:mail"}, (toy("rb", file("t/f", "b\n", owner=("games", "mail", 0, 1001), mode=0o4755)),)
    ),
    "a conffile before its package is configured": Row(
        (toy("a", postinst='ls "$DPKG_ROOT/t" >"$DPKG_ROOT/seen/ls"'), toy("b", B, conffiles="/t/f\n", needs="")),
        {"t/f": "b\n", "seen/ls": "base\ndpkg\nf.dpkg-new\nonly-a\nonly-b\n"},
    ),
    "a conffile that somebody made before": Row(
        (toy("a", postinst='echo mine >"$DPKG_ROOT/t/f"'), toy("b", B, conffiles="/t/f\n")),
        {"t/f": "mine\n", "t/f.dpkg-dist": "b\n"},
    ),
    "a conffile that is a link": Row((toy("b", link("t/f", "base"), conffiles="/t/f\n"),), {"t/f": "-> base"}),
    "a conffile of two packages": Row(
        (toy("a", A, conffiles="/t/f\n"), toy("b", B, conffiles="/t/f\n", replaces="a")), {}
    ),
    "a file through another package's link": Row(
        (toy("a", folder("t/d"), link("t/l", "d")), toy("b", folder("t/l"), file("t/l/x", "b\n"))),
        {"t/d/x": "b\n", "t/l": "-> d"},
    ),
    "a link where a folder is": Row(
        (toy("a", folder("t/l"), file("t/l/x", "a\n")), toy("b", folder("t/d"), link("t/l", "d"))), {"t/l/x": "a\n"}
    ),
    "a link where another link is": Row(
        (toy("a", folder("t/d"), link("t/l", "d")), toy("b", link("t/l", "./d"), replaces="a")), {"t/l": "-> d"}
    ),
    "a file where another package's folder is": Row(
        (toy("a", folder("t/f"), file("t/f/x", "a\n")), toy("b", B, replaces="a")), {"t/f": "b\n"}
    ),
    "a folder where another package's file is": Row(
        (toy("a", A), toy("b", folder("t/f"), file("t/f/x", "b\n"), replaces="a")), {"t/f/x": "b\n"}
    ),
    "the mode of a folder": Row((toy("a", folder("t/d", mode=0o700)), toy("b", folder("t/d", mode=0o755))), {}),
    "a file that a script has made": Row((toy("a", preinst='echo >"$DPKG_ROOT/t/f"'), toy("b", B)), {"t/f": "b\n"}),
    "a folder that a script has made": Row((toy("a", preinst='mkdir "$DPKG_ROOT/t/f"'), toy("b", B)), {"t/f": "b\n"}),
    "a hard link": Row((toy("b", B, Member("./t/g", HARD, "./t/f"), conffiles="/t/f\n"),), {"t/g": "b\n"}),
    "names with slashes and dots": Row(
        (toy("b", Member("/t/f", content="b\n"), Member("./t//g", content="b\n"), Member("./t/./h", content="b\n")),),
        {"t/f": "b\n", "t/g": "b\n", "t/h": "b\n"},
        (
            toy(
                "rb",
                Member("/t/rf", content="b\n"),
                Member("./t//rg", content="b\n"),
                Member("./t/./rh", content="b\n"),
            ),
        ),
    ),
    "no blank blocks at the end": Row(
        (toy("b", B, ends=False),), {"t/f": "b\n"}, (toy("rb", file("t/g", "b\n"), ends=False),)
    ),
    "no md5sums": Row((toy("b", B, sums=False),), {"t/f": "b\n"}, (toy("rb", file("t/g", "b\n"), sums=False),)),
    "a path that is excluded": Row(
        (toy("a", A), toy("b", B, file("t/g", "b\n"))),
        {"t/f": None, "t/g": "b\n"},
        options=("--path-exclude=/t/f",),
        warns="has taken",
    ),
    "what a preinst asks dpkg": Row((toy("a", A), toy("b", preinst=ASKS.format(name="b"))), {}),
}


def shown(root: Path, path: str, wanted: "str | None") -> "str | None":
    found = root / path
    if wanted is None or not os.path.lexists(found):
        return None if not os.path.lexists(found) else "it is there"
    if found.is_symlink():
        return f"-> {os.readlink(found)}"
    if re.fullmatch(r"\w+:\w+", wanted):
        owner = found.stat()
        return wanted if wanted == f"{owner.st_uid}:{owner.st_gid}" else f"{found.owner()}:{found.group()}"
    return found.read_text()


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_dpkgs(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    required = (*REQUIRED, *row.required)
    made, events = ours(tmp_path / "ours", required, row.base, row.options)
    theirs = dpkgs(tmp_path / "theirs", required, row.base, row.options)
    try:
        assert differences(made, theirs) == []
        assert {path: shown(made.root, path, wanted) for path, wanted in row.shows.items()} == row.shows
        notes = [one.text for one in events if isinstance(one, Note)]
        assert bool(notes) == bool(row.warns) and all(row.warns in text for text in notes), notes
    finally:
        made.close()
        theirs.close()


# Few names, so that random packages meet.
PLACES = ("t/a", "t/b", "t/d", "t/d/a", "t/d/b", "t/l", "t/l/a", "t/l/d", "t/l/d/a")
OWNERS = (("root", "root", 0, 0), ("games", "mail", 5, 8), ("games", "mail", 0, 1001), ("nosuch", "", 1001, 1002))
NAMES = ("a", "b", "c", "d")


@st.composite
def toys(draw: st.DrawFn, name: str, *, quiet: bool = False) -> Toy:
    # Required packages meet in files alone: debootstrap lays them out by tar first, which the rest would stop.
    kinds = draw(
        st.dictionaries(st.sampled_from(PLACES), st.sampled_from(("file", "file", "folder", "link")), max_size=3)
    )
    if quiet:
        kinds = {path: "file" for path in kinds if path in ("t/a", "t/b")}
    for path in sorted(kinds):  # no path below a file of the same package; folders are shipped, as dpkg asks for them
        above = path.rpartition("/")[0]
        while above != "t":
            kinds[above] = "folder"
            above = above.rpartition("/")[0]
    members = []
    late = []
    kinds[f"t/{name}-alone"] = "file"  # most have nothing to decide
    for path, kind in sorted(kinds.items()):
        owner = draw(st.sampled_from(OWNERS))
        if kind == "folder":
            members.append(folder(path, mode=draw(st.sampled_from((0o755, 0o750))), owner=owner))
        elif kind == "link":
            members.append(link(path, draw(st.sampled_from(("d", "./d", "a", "nowhere")))))
        else:
            members.append(file(path, draw(st.sampled_from((f"{name}\n", "same\n"))), owner=owner))
            if not quiet and draw(st.booleans()):
                late.append(path)
    preinst = "" if quiet else draw(st.sampled_from(("", "", "diverts", "asks", "makes")))
    path = draw(st.sampled_from(("t/a", "t/b", "t/d/a")))
    script = {
        "diverts": f'[ -d "$DPKG_ROOT/{path}" ] || {divert(name, path)}',
        "asks": ASKS.format(name=name),
        "makes": f'[ -e "$DPKG_ROOT/{path}" ] || ! [ -d "$DPKG_ROOT/t/d" ] || echo made >"$DPKG_ROOT/{path}"',
    }.get(preinst, "")
    others = draw(st.sets(st.sampled_from([one for one in (*NAMES, "ra", "rb") if one != name]), max_size=2))
    return toy(
        name,
        *members,
        replaces=", ".join(sorted(others)),
        needs="" if quiet else draw(st.sampled_from(("", "", "", *NAMES[: NAMES.index(name)]))),
        conffiles="".join(f"/{path}\n" for path in late),
        preinst=script,
        quiet=quiet,
        own=quiet or draw(st.integers(0, 9)) < 9,
        sums=draw(st.booleans()),
        ends=draw(st.booleans()),
    )


def check_random(sets: "tuple[list[Toy], list[Toy]]", folder: Path) -> None:
    required, base = [*REQUIRED, *sets[0]], sets[1]
    theirs, failed = told(lambda: dpkgs(folder / "theirs", required, base))
    made, failed_too = told(lambda: ours(folder / "ours", required, base)[0])
    event("dpkg refuses" if failed else "dpkg takes it")
    try:
        assert bool(failed) == bool(failed_too), failed or failed_too
        if made and theirs:
            assert differences(made, theirs) == []
    finally:
        for one in (made, theirs):
            if one:
                one.close()


SETS = st.tuples(
    st.tuples(*(toys(name, quiet=True) for name in ("ra", "rb"))).map(list),
    st.tuples(*(toys(name) for name in NAMES)).map(list),
)
FEW = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@given(sets=SETS)
@settings(max_examples=6, phases=(Phase.generate,), derandomize=True, **FEW)
def test_a_few_random_sets_are_dpkgs(
    sets: "tuple[list[Toy], list[Toy]]", tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_random(sets, tmp_path_factory.mktemp("toys"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(sets=SETS)
@settings(max_examples=int(os.environ.get("CTK_TEST_EXAMPLES", "300")), **FEW)
def test_many_random_sets_are_dpkgs(
    sets: "tuple[list[Toy], list[Toy]]", tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_random(sets, tmp_path_factory.mktemp("toys"))


def test_the_table_has_each_row() -> None:
    page = (TOP / "docs/unpacking.md").read_text()
    table = page[page.index("| the case") :].split("\n\n", 1)[0].splitlines()[2:]
    assert sorted(line.strip("| ").split(" | ")[0] for line in table) == sorted(ROWS)
