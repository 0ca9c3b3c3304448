"""What comes with a wish: apt's walk, the search where that fails, the reasons where nothing helps."""

import random

import pytest

from tests.unit.test_resolve import BASE, SOURCE, SUITE, lock, names, package
from toolkit.bootstrap.facts.pool import Candidate, Member, Pool
from toolkit.bootstrap.resolve.apt_marker import choose
from toolkit.bootstrap.resolve.cdcl import search
from toolkit.bootstrap.resolve.relations import Chosen, Relations
from toolkit.bootstrap.resolve.resolve import resolve
from toolkit.deb.index import Index
from toolkit.errors import NotFound, Unsolvable, Usage


def chosen(*packages: str, include: str, **more: str) -> list[str]:
    return names(lock(*packages, variant="custom", include=include, **more))[0]


def test_an_early_choice_that_excludes_a_later_need_is_taken_back() -> None:
    packages = (
        package("app", Depends="one | two, needs-two"),
        package("one", Conflicts="two"),
        package("two"),
        package("needs-two", Depends="two"),
    )
    assert chosen(*packages, include="app") == ["app", "needs-two", "two"]


def test_a_provider_whose_own_needs_fail_is_passed_over() -> None:
    packages = (
        package("app", Depends="virtual"),
        package("broken", "important", Provides="virtual", Depends="nothing-has-this"),
        package("whole", Provides="virtual"),
    )
    assert chosen(*packages, include="app") == ["app", "whole"]


def test_of_equal_providers_the_one_that_is_spoken_of_last() -> None:
    """docs/quirks.md 39: by the first mention, in a relation too; not by the order of the paragraphs."""
    app = package("app", Depends="virtual")
    one, two = package("one", Provides="virtual"), package("two", Provides="virtual")
    assert chosen(app, one, two, include="app") == ["app", "two"]
    early = package("aaa", Suggests="two, x-one, one-x")
    assert chosen(early, app, one, two, include="app") == ["app", "one"]
    assert chosen(app, package("one", "standard", Provides="virtual"), two, include="app") == ["app", "one"]


def test_versions_of_conflicts_and_provides_count() -> None:
    packages = (
        package("app", Depends="lib"),
        package("lib", Breaks="old (<< 2)", Conflicts="virtual (= 1)"),
        package("old", Version="2"),
        package("provides-2", Provides="virtual (= 2)"),
        package("provides-1", Provides="virtual (= 1)"),
    )
    assert chosen(*packages, include="app old provides-2") == ["app", "lib", "old", "provides-2"]
    with pytest.raises(Unsolvable, match="'lib' conflicts with virtual"):
        lock(*packages, variant="custom", include="app provides-1")


def test_any_needs_multi_arch_allowed() -> None:
    packages = (package("app", Depends="perl:any"), package("perl", Multi_Arch="allowed"))
    assert chosen(*packages, include="app") == ["app", "perl"]
    with pytest.raises(Unsolvable, match="Multi-Arch: allowed"):
        lock(packages[0], package("perl"), variant="custom", include="app")


def test_pre_depends_come_with_it_and_recommends_only_when_asked() -> None:
    packages = (package("app", Pre_Depends="pre", Recommends="nice | other, gone"), package("pre"), package("nice"))
    assert chosen(*packages, include="app") == ["app", "pre"]
    resolved = resolve(
        Pool([Member(0, "main", Index("\n".join(packages).encode()))], "amd64"),
        SUITE,
        (SOURCE,),
        variant="custom",
        include=["app"],
        recommends=True,
    )
    assert names(resolved)[0] == ["app", "nice", "pre"]


def test_what_is_excluded_is_taken_last() -> None:
    packages = (package("app", Depends="one | two"), package("one"), package("two"))
    assert chosen(*packages, include="app", exclude="one") == ["app", "two"]
    assert chosen(*packages[:2], include="app", exclude="one") == ["app", "one"]


def test_patterns() -> None:
    assert "less" in names(lock(*BASE, include="?priority(standard)"))[1]
    assert "gcc" in names(lock(*BASE, include="?name(^g.c$)"))[1]
    assert lock(*BASE, include="?essential").packages
    with pytest.raises(NotFound):
        lock(*BASE, include="?section(none)")
    for wrong in ("?essentials", "?name(()", "?priority()"):
        with pytest.raises(Usage):
            lock(*BASE, include=wrong)


def test_several_reasons_are_told_in_their_order() -> None:
    packages = (
        package("app", Depends="one | two"),
        package("one", Depends="gone"),
        package("two", Conflicts="other"),
        package("other"),
    )
    with pytest.raises(Unsolvable) as caught:
        lock(*packages, variant="custom", include="app other")
    assert caught.value.because == (
        "'app' was asked for by --include; 'other' was asked for by --include; 'app' depends on one | two; "
        "'one' depends on gone, which no package in main is or provides; 'two' conflicts with other"
    )


def test_a_wish_against_the_variants_own_set() -> None:
    packages = (*BASE, package("cronlike", "important"), package("rival", Conflicts="cronlike"))
    with pytest.raises(Unsolvable, match="'cronlike': it belongs to the variant") as caught:
        lock(*packages, variant="-", include="rival")
    assert "--exclude cronlike" in caught.value.hint
    assert "rival" in names(lock(*packages, variant="-", include="rival", exclude="cronlike"))[1]


def test_two_versions_of_one_package_in_one_index() -> None:
    packages = (package("tool", Version="2"), package("tool", Version="10"), package("tool", Version="9"))
    pool = Pool([Member(0, "main", Index("\n".join(packages).encode()))], "amd64")
    assert [one.version for one in pool.versions("tool")] == ["10", "9", "2"]
    assert lock(*packages, variant="custom", include="tool=2").packages[0].version == "2"
    table = Index("\n".join(packages).encode()).table()
    again = Index("\n".join(packages).encode(), table=table)
    assert [fields["Version"] for fields in again.versions("tool")] == ["2", "10", "9"]


def foreign(*packages: str) -> Pool:
    own = [one for one in packages if "Architecture: i386" not in one]
    other = [one for one in packages if "Architecture: i386" in one]
    members = [Member(0, "main", Index("\n".join(own).encode()))]
    members.append(Member(0, "main", Index("\n".join(other).encode()), "i386"))
    return Pool(members, "amd64")


def test_multi_arch() -> None:
    pool = foreign(
        package("lib", Multi_Arch="same"),
        package("lib", Architecture="i386", Multi_Arch="same"),
        package("tool", Multi_Arch="foreign"),
        package("plain"),
        package("app", Architecture="i386", Depends="lib, tool"),
        package("bad", Architecture="i386", Depends="plain"),
        package("plain2", Architecture="i386", Depends="lib"),
    )

    def added(*keys: str) -> list[str]:
        wishes = [one for key in keys if (one := pool.candidate(key)) is not None]
        return sorted(choose(pool, wishes, ()))

    assert added("app:i386") == ["app:i386", "lib:i386", "tool"]
    assert added("app:i386", "lib") == ["app:i386", "lib", "lib:i386", "tool"]
    with pytest.raises(Unsolvable, match="depends on plain"):
        added("bad:i386")


def brute(relations: Relations, all_of_them: list[Candidate], wishes: list[Candidate]) -> bool:
    """Whether any subset holds together: every one of them is looked at."""
    for bits in range(1 << len(all_of_them)):
        found = [one for at, one in enumerate(all_of_them) if bits >> at & 1]
        if not set(wishes) <= set(found):
            continue
        chosen = Chosen(relations)
        fits = True
        for one in found:
            fits = fits and not any(True for _ in chosen.excluded_by(one))
            chosen.add(one)
        if not fits:
            continue
        if all(chosen.satisfies(group, one) for one in found for group in relations.of(one, "Depends")):
            return True
    return False


@pytest.mark.parametrize("seed", range(60))
def test_the_search_agrees_with_trying_everything(seed: int) -> None:
    chance = random.Random(seed)
    all_names = [f"p{number}" for number in range(9)]
    packages = []
    for name in all_names:
        groups = [
            " | ".join(chance.sample(all_names, chance.choice((1, 2, 2)))) for _ in range(chance.choice((0, 1, 2)))
        ]
        fields = {"Depends": ", ".join(groups)} if groups else {}
        if chance.random() < 0.6:
            fields["Conflicts"] = ", ".join(chance.sample(all_names, chance.choice((1, 2))))
        packages.append(package(name, **fields))
    pool = Pool([Member(0, "main", Index("\n".join(packages).encode()))], "amd64")
    everything = [one for name in all_names if (one := pool.candidate(name)) is not None]
    wishes = chance.sample(everything, 3)
    relations = Relations(pool)
    possible = brute(relations, everything, wishes)
    try:
        found = search(pool, relations, wishes, [], frozenset())
    except Unsolvable as error:
        assert not possible, error
        return
    assert possible and set(wishes) <= set(found)
    chosen = Chosen(relations)
    for one in found:
        assert not list(chosen.excluded_by(one))
        chosen.add(one)
    assert all(chosen.satisfies(group, one) for one in found for group in relations.of(one, "Depends"))
