"""Which packages are chosen, on indexes made by hand. The comparison with the real debootstrap is a story test."""

from dataclasses import replace

import pytest

from toolkit.bootstrap.facts.model import Lock, Source
from toolkit.bootstrap.facts.pool import Member, Pool
from toolkit.bootstrap.facts.suites import Suite, lookup
from toolkit.bootstrap.resolve.resolve import VARIANTS, resolve, variant_name
from toolkit.deb.index import Index
from toolkit.errors import Malformed, NotFound, Unsolvable

SOURCE = Source("http://mirror.example/debian", "bookworm", "bookworm", "Debian", ("main",), "today", "0" * 64)
SUITE = replace(lookup("bookworm"), packages=(), ignored_dependencies=("usrmerge",))


def package(name: str, priority: str = "optional", **fields: str) -> str:
    given = {
        "Package": name,
        "Version": "1",
        "Architecture": "amd64",
        "Priority": priority,
        "Filename": f"pool/{name}_1_amd64.deb",
        "Size": "10",
        "SHA256": "a" * 64,
    }
    given |= {field.replace("_", "-"): value for field, value in fields.items()}
    return "".join(f"{field}: {value}\n" for field, value in given.items())


BASE = (
    package("dpkg", "required", Essential="yes", Pre_Depends="libc6 (>= 1)"),
    package("libc6", "optional", Depends="gone | also-gone"),
    package("init", "important", Depends="usrmerge | other, dpkg"),
    package("apt", "important", Depends="libc6, dpkg:any"),
    package("build-essential", Depends="gcc"),
    package("gcc"),
    package("less", "standard"),
    package("usrmerge"),
    package("provider", Provides="also-gone"),
)


def pool(*packages: str) -> Pool:
    return Pool([Member(0, "main", Index("\n".join(packages).encode()))], "amd64")


def lock(*packages: str, variant: str = "minbase", include: str = "", exclude: str = "", suite: Suite = SUITE) -> Lock:
    return resolve(pool(*packages), suite, (SOURCE,), variant=variant, include=include.split(), exclude=exclude.split())


def names(found: Lock) -> tuple[list[str], list[str]]:
    return [one.name for one in found.required], [one.name for one in found.base]


CORE = ["dpkg", "libc6", "provider"]


@pytest.mark.parametrize(
    ("variant", "required", "base"),
    [
        ("minbase", CORE, ["apt"]),
        ("-", CORE, ["apt", "init"]),
        ("buildd", CORE, ["apt", "build-essential", "gcc"]),
        ("essential", CORE, []),
        ("apt", CORE, ["apt"]),
        ("required", CORE, ["apt"]),
        ("important", CORE, ["apt", "init"]),
        ("standard", CORE, ["apt", "init", "less"]),
        ("custom", [], []),
        ("extract", [], []),
    ],
)
def test_variants(variant: str, required: list[str], base: list[str]) -> None:
    assert names(lock(*BASE, variant=variant)) == (required, base)


def test_variant_names() -> None:
    assert variant_name("") == variant_name("default") == "-"
    with pytest.raises(NotFound, match="did you mean 'minbase'") as caught:
        variant_name("minbse")
    assert all(name in caught.value.hint for name in VARIANTS)


def test_bookworm_gets_its_merge_marker() -> None:
    found = lock(*BASE, package("usr-is-merged"), suite=lookup("bookworm"))
    assert names(found)[0] == [*CORE, "usr-is-merged"]
    # Ubuntu's rules leave usrmerge in.
    assert "usrmerge" in names(lock(*BASE, variant="-", suite=lookup("jammy")))[1]


def test_https_mirrors_bring_the_certificates() -> None:
    source = replace(SOURCE, mirror="https://mirror.example/debian")
    found = resolve(pool(*BASE, package("ca-certificates")), SUITE, (source,), variant="minbase")
    assert "ca-certificates" in names(found)[1]


def test_of_alternatives_those_that_are_there_count_for_wishes_and_the_first_for_the_variants_own_set() -> None:
    found = lock(*BASE, package("xx", Depends="less | gcc"), variant="custom", include="xx gcc")
    assert names(found)[0] == ["gcc", "xx"]  # as apt
    packages = (*BASE, package("xx", "important", Depends="less | gcc"), package("yy", "important", Depends="gcc"))
    assert names(lock(*packages, variant="-"))[1] == ["apt", "gcc", "init", "less", "xx", "yy"]  # as debootstrap


def test_where_first_alternatives_contradict_those_at_hand_are_preferred() -> None:
    packages = (
        package("desktop", Depends="sound, player"),
        package("player", Depends="old-sound | sound"),
        package("sound"),
        package("old-sound", Conflicts="sound"),
    )
    assert names(lock(*packages, variant="custom", include="desktop"))[0] == ["desktop", "player", "sound"]


def test_include_takes_versions_and_architectures() -> None:
    assert "gcc" in names(lock(*BASE, include="gcc=1"))[1]
    assert "gcc" in names(lock(*BASE, include="gcc:amd64"))[1]
    with pytest.raises(Unsolvable, match="the suite has version 1 of it"):
        lock(*BASE, include="gcc=2")
    with pytest.raises(Unsolvable, match="no package 'gcc:arm64'"):
        lock(*BASE, include="gcc:arm64")


def test_what_is_not_there_gets_near_names() -> None:
    with pytest.raises(Unsolvable, match="there is no package 'build-esential' in main") as caught:
        lock(*BASE, include="build-esential")
    assert "'build-essential'" in caught.value.hint
    with pytest.raises(Unsolvable, match="virtual") as caught:
        lock(*BASE, include="also-gone")
    assert "provider" in caught.value.hint


def test_an_unsolvable_request_tells_its_chain_of_reasons() -> None:
    packages = (*BASE, package("a", Depends="b"), package("b", Depends="c"), package("c", Depends="d (>= 2) | e, gcc"))
    with pytest.raises(Unsolvable) as caught:
        lock(*packages, include="a")
    assert caught.value.doing == "install 'c'"
    assert caught.value.because == (
        "it depends on d (>= 2) | e, which no package in main is or provides; 'c' is needed by 'b', 'b' is needed by "
        "'a', 'a': it was asked for by --include"
    )
    with pytest.raises(Unsolvable, match="but the suite has gcc 1"):
        lock(*BASE, package("z", Depends="gcc (>= 9)"), include="z")


def test_versioned_provides() -> None:
    packages = (
        package("wants", Depends="virtual (>= 2)"),
        package("plain", Provides="virtual"),
        package("old", Provides="virtual (= 1)"),
        package("new", Provides="virtual (= 3)"),
    )
    assert names(lock(*packages, variant="custom", include="wants"))[0] == ["new", "wants"]
    with pytest.raises(Unsolvable):
        lock(*packages[:3], variant="custom", include="wants")


def test_of_several_providers_the_one_of_the_highest_priority() -> None:
    packages = (
        package("wants", Depends="awk"),
        package("gawk", Provides="awk"),
        package("mawk", "required", Provides="awk"),
        package("nawk", "important", Provides="awk"),
    )
    assert names(lock(*packages, variant="custom", include="wants"))[0] == ["mawk", "wants"]


def test_conflicts_of_what_was_asked_for() -> None:
    packages = (*BASE, package("pp", Conflicts="qq"), package("qq"), package("rr", Breaks="qq (<< 1)"))
    with pytest.raises(Unsolvable, match="install 'pp' and 'qq' together"):
        lock(*packages, include="pp qq")
    assert "rr" in names(lock(*packages, include="qq rr"))[1]  # qq is 1, not older
    # mail-transport-agents provide what they conflict with; that is no conflict with oneself.
    assert lock(*BASE, package("mta", Provides="mta-x", Conflicts="mta-x"), include="mta")


def test_exclude_takes_away_seeds_not_dependencies() -> None:
    assert names(lock(*BASE, variant="-", exclude="init"))[1] == ["apt"]
    assert "libc6" in names(lock(*BASE, exclude="libc6"))[0]


def test_the_first_index_that_has_a_name_wins() -> None:
    two = Pool(
        [
            Member(0, "main", Index(package("aa", Version="1").encode())),
            Member(0, "universe", Index("\n".join([package("aa", Version="2"), package("bb", Depends="aa")]).encode())),
        ],
        "amd64",
    )
    found = resolve(two, SUITE, (SOURCE,), variant="custom", include=["bb"])
    assert [(one.name, one.version, one.component) for one in found.required] == [
        ("aa", "1", "main"),
        ("bb", "1", "universe"),
    ]


def test_the_build_id_is_of_what_decides_the_tree() -> None:
    first = lock(*BASE)
    assert first.build_id == lock(*reversed(BASE)).build_id and len(first.build_id) == 64
    assert first.build_id != lock(*BASE, variant="-").build_id
    changed = [part.replace("a" * 64, "b" * 64) for part in BASE]
    assert first.build_id != lock(*changed).build_id
    later = replace(SOURCE, date="tomorrow", signed_by=("X",))
    assert first.build_id == resolve(pool(*BASE), SUITE, (later,), variant="minbase").build_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Filename", "../../etc/passwd"),
        ("Filename", "/etc/passwd"),
        ("Filename", "pool/x y.deb"),
        ("Filename", "pool/x.deb?redirect"),
        ("Filename", "pool\\x.deb"),
        ("Filename", ""),
        ("Size", "-1"),
        ("Size", "ten"),
        ("SHA256", ""),
        ("SHA256", "a" * 63),
        ("Version", "1/../x"),
        ("Version", ""),
        ("Architecture", "arm64"),
        ("Package", "../evil"),
    ],
)
def test_b4_a_field_that_could_lead_elsewhere_is_refused(field: str, value: str) -> None:
    with pytest.raises((Malformed, Unsolvable)):
        lock(package("evil", **{field: value}), variant="custom", include="evil" if field != "Package" else "../evil")
