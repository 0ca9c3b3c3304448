"""Device rules: settled once, the same on v1 (files) and v2 (eBPF program), and never wider than asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.ebpf import run_device_program
from toolkit.errors import Invalid
from toolkit.kernel.bpf import device_program
from toolkit.runtime.cgroups.devices import MKNOD, READ, WRITE, settle, transition_v1, writes_v1

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
DEFAULTS = [
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:5 rwm", "c 1:9 rwm",
    "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm",
]  # fmt: skip


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, object]:
    result: dict[str, object] = {"allow": allow, "type": kind, "access": access}
    if major is not None:
        result["major"] = major
    if minor is not None:
        result["minor"] = minor
    return result


def test_without_rules_only_the_default_devices_are_allowed() -> None:
    assert writes_v1([]) == writes_v1([DENY_ALL]) == [("devices.deny", ["a"]), ("devices.allow", DEFAULTS)]


def test_a_rule_of_the_spec_comes_before_the_defaults() -> None:
    plan = writes_v1([DENY_ALL, rule(True, "b", 8, 0, "r"), rule(True, "b", 8, 0, "w")])
    assert plan[1][1] == ["b 8:0 rw", *DEFAULTS]


def test_allow_all_leaves_nothing_to_deny() -> None:
    assert writes_v1([ALLOW_ALL]) == [("devices.allow", ["a"])]


def test_a_rule_against_all_forgets_the_rules_before() -> None:
    assert writes_v1([rule(True, "b", 8, 0, "rwm"), DENY_ALL]) == writes_v1([])


def test_denying_a_part_of_what_a_wider_rule_allows_is_an_error() -> None:
    with pytest.raises(Invalid, match="punch hole"):
        settle([rule(True, "c", 4, None, "rw"), rule(False, "c", 4, 64, "w")])


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"allow": True}, "linux.resources.devices[0].access"),
        ({"allow": True, "access": ""}, "linux.resources.devices[0].access"),
        ({"allow": True, "type": "p", "access": "r"}, "linux.resources.devices[0].type"),
        ({"allow": True, "type": "c", "major": -2, "access": "r"}, "linux.resources.devices[0].major"),
        ({"allow": True, "type": "c", "minor": 1 << 32, "access": "r"}, "linux.resources.devices[0].minor"),
    ],
)
def test_a_bad_rule_is_named(bad: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        settle([bad])
    assert caught.value.path == path


def test_letters_that_are_no_access_are_passed_over() -> None:
    assert settle([rule(True, "b", 8, 0, "rx"), rule(True, "b", 8, 1, "x")])[1].get(("b", 8, 0)) == READ
    assert ("b", 8, 1) not in settle([rule(True, "b", 8, 1, "x")])[1]


def test_an_update_denies_nothing_that_stays_allowed() -> None:
    current = "\n".join(["b 8:0 rw", *DEFAULTS]) + "\n"
    assert transition_v1(current, [DENY_ALL, rule(True, "b", 8, 0, "r"), rule(True, "c", 7, 1, "r")]) == [
        ("devices.deny", ["b 8:0 w"]),
        ("devices.allow", ["c 7:1 r"]),
    ]
    assert transition_v1(current, [DENY_ALL, rule(True, "b", 8, 0, "rw")]) == []


def test_an_update_from_allow_all_begins_anew() -> None:
    assert transition_v1("a *:* rwm\n", []) == writes_v1([])


numbers = st.integers(0, 3)
rules = st.builds(
    rule,
    st.booleans(),
    st.sampled_from("aabc"),
    st.none() | numbers,
    st.none() | numbers,
    st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
)


def allowed(
    default: bool, exceptions: dict[tuple[str, int, int], int], device: tuple[str, int, int], access: int
) -> bool:
    """The v1 controller's answer (security/device_cgroup.c): an allowing exception must hold all, a denying one any."""
    kind, major, minor = device
    for (its_kind, its_major, its_minor), held in exceptions.items():
        if its_kind != kind or its_major not in (-1, major) or its_minor not in (-1, minor):
            continue
        if default and held & access:
            return False
        if not default and access & ~held == 0:
            return True
    return default


@given(
    st.lists(rules, max_size=6),
    st.sampled_from("bc"),
    numbers,
    numbers,
    st.sampled_from([READ, WRITE, MKNOD, READ | WRITE, READ | WRITE | MKNOD]),
)
def test_the_program_answers_as_the_v1_controller_would(
    spec: list[dict[str, object]], kind: str, major: int, minor: int, access: int
) -> None:
    try:
        default, exceptions = settle(spec)
    except Invalid:
        return
    code = device_program(default, exceptions.items())
    expected = allowed(default, exceptions, (kind, major, minor), access)
    assert run_device_program(code, kind, major, minor, access) == int(expected)


def test_large_device_numbers_are_compared_whole() -> None:
    code = device_program(False, {("c", 0xFFFFFFFF, 0x80000000): 7}.items())
    assert run_device_program(code, "c", 0xFFFFFFFF, 0x80000000, READ) == 1
    assert run_device_program(code, "c", 0x7FFFFFFF, 0x80000000, READ) == 0
