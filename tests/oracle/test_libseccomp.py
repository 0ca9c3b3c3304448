"""The seccomp compiler against two judges: a reading of the profile in plain Python, and libseccomp."""

import operator
import random
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.bpf import ACTIONS, AUDIT, OPERATORS, Libseccomp, Machine, Refused
from tests.fixtures.profiles import ALLOW, ENOSYS, KILL, PODMAN, SETS, X32, X86, X86_64, compiled, engine_profile
from toolkit.runtime.seccomp import compiler

PERMISSIVE = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
LIBRARY = Libseccomp()

COMPARE = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}


def holds(condition: dict[str, Any], arguments: list[int], bits: int) -> bool:
    mask = (1 << bits) - 1
    value, argument = condition["value"] & mask, arguments[condition["index"]] & mask
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return argument & value == condition.get("valueTwo", 0) & value
    return bool(COMPARE[condition["op"]](argument, value))


def meaning(profile: dict[str, Any], name: str, arguments: list[int], bits: int = 64) -> int:
    """What the profile says about a call that it may name, without any machine code."""
    default = LIBRARY.action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    met = []
    for entry in profile["syscalls"]:
        action = LIBRARY.action(entry["action"], entry.get("errnoRet"))
        if name not in entry["names"] or action == default:
            continue
        conditions = entry.get("args") or []
        results = [holds(condition, arguments, bits) for condition in conditions]
        if not conditions:
            return action
        indexes = [condition["index"] for condition in conditions]
        if any(results) if len(set(indexes)) < len(indexes) else all(results):
            met.append(action)
    # Unconditional rules came first, wherever they stand.
    return min(met, key=lambda value: struct.unpack("=i", struct.pack("=I", value & 0xFFFF0000))[0], default=default)


def unconditional(profile: dict[str, Any], name: str) -> "int | None":
    default = LIBRARY.action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    for entry in profile["syscalls"]:
        action = LIBRARY.action(entry["action"], entry.get("errnoRet"))
        if name in entry["names"] and not entry.get("args") and action != default:
            return action
    return None


# --- profiles by chance ----------------------------------------------------------------------------------------------

NAMES = ["read", "write", "openat", "personality", "clone", "ioctl", "prctl", "kill", "getpid", "mount", "bpf", "close",
         "execve", "statx", "unshare", "nosuchcall", "futex", "mmap", "setns", "keyctl"]  # fmt: skip
edges = st.sampled_from([0, 1, 2, 9, 16, 38, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1])
words64 = st.one_of(edges, st.integers(0, 2**64 - 1))
condition = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "op": st.sampled_from(list(OPERATORS)), "value": words64, "valueTwo": words64}
)
unnotified = st.sampled_from([word for word in ACTIONS if word != "SCMP_ACT_NOTIFY"])


@st.composite
def entries(draw: st.DrawFn, conditions: Any, names: Any = None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "names": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4) if names is None else names),
        "action": draw(unnotified),
        "args": draw(conditions),
    }
    if entry["action"] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        entry["errnoRet"] = draw(st.sampled_from([None, 0, 1, 22, 38, 4094]))
    return entry


@st.composite
def profiles(draw: st.DrawFn, rules: Any) -> dict[str, Any]:
    profile: dict[str, Any] = {"defaultAction": draw(unnotified), "syscalls": draw(rules)}
    if profile["defaultAction"] == "SCMP_ACT_ERRNO":
        profile["defaultErrnoRet"] = draw(st.sampled_from([None, 1, 38, 13]))
    profile["architectures"] = draw(st.sampled_from([[X86_64], [X86_64, X86], [X86_64, X86, X32], [X86_64, X32], []]))
    return profile


def arguments_near(profile: dict[str, Any], chance: random.Random) -> list[int]:
    """Arguments near the profile's own values, where comparisons go wrong."""
    arguments = [chance.choice((0, 1, 2**32, chance.getrandbits(32), chance.getrandbits(64))) for _ in range(6)]
    for entry in profile["syscalls"]:
        for c in entry.get("args") or ():
            if chance.random() < 0.5:
                arguments[c["index"]] = (c["value"] + chance.choice((-1, 0, 0, 1, 1 << 32))) % 2**64
    return arguments


def newest(profile: dict[str, Any], architecture: str) -> int:
    names = {name for entry in profile["syscalls"] for name in entry["names"]}
    return max((LIBRARY.number(architecture, name) for name in names), default=-1)


SETTINGS = settings(suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)
any_rules = st.lists(entries(st.lists(condition, max_size=4)), max_size=6)


@SETTINGS
@given(seed=seeds, profile=profiles(any_rules))
def test_program_says_what_the_profile_says(seed: int, profile: dict[str, Any]) -> None:
    machine = compiled(profile)
    chance = random.Random(seed)
    for name in NAMES * 3:
        arguments = arguments_near(profile, chance)
        for architecture, bits in ((X86_64, 64), (X32, 32), (X86, 32)):
            number = LIBRARY.number(architecture, name)
            if number < 0:
                continue
            got = machine.run(AUDIT[architecture], number, arguments)
            if architecture != X86_64 and architecture not in profile["architectures"]:
                assert got == KILL
            elif number > newest(profile, architecture) >= 0 and profile["defaultAction"] not in PERMISSIVE:
                assert got == ENOSYS
            else:
                assert got == meaning(profile, name, arguments, bits)


# libseccomp's tree loses rules when several with different arguments or with high halves meet (see
# docs/decisions/0005-seccomp.md), so what it is asked about has one rule for each call.
one_rule = st.builds(
    lambda entries: [entry | {"names": [name]} for entry, name in zip(entries, NAMES, strict=False)],
    st.lists(
        entries(st.lists(condition, max_size=4, unique_by=lambda c: c["index"]), st.just(["read"])), max_size=len(NAMES)
    ),
)


@SETTINGS
@given(seed=seeds, profile=profiles(one_rule))
def test_agrees_with_libseccomp(seed: int, profile: dict[str, Any]) -> None:
    ours, theirs = compiled(profile), Machine(LIBRARY.program(profile))
    chance = random.Random(seed)
    for name in NAMES * 3:
        arguments = arguments_near(profile, chance)
        for architecture in (X86_64, X32, X86):
            number = LIBRARY.number(architecture, name)
            if number < 0 or newest(profile, architecture) < number:
                continue
            assert ours.run(AUDIT[architecture], number, arguments) == theirs.run(
                AUDIT[architecture], number, arguments
            )


several_rules = st.lists(
    entries(st.lists(condition, max_size=1), st.just(["personality"])).map(
        lambda entry: entry | {"action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    ),
    max_size=5,
)


def test_several_rules_agree_with_libseccomp_where_it_is_right() -> None:
    count = {"same": 0, "libseccomp is wrong": 0}

    @SETTINGS
    @given(seed=seeds, profile=profiles(several_rules))
    def compare(seed: int, profile: dict[str, Any]) -> None:
        try:
            theirs = Machine(LIBRARY.program(profile))
        except Refused:
            return  # two equal rules
        ours = compiled(profile)
        chance = random.Random(seed)
        for _ in range(50):
            arguments = arguments_near(profile, chance)
            want = meaning(profile, "personality", arguments)
            assert ours.run(AUDIT[X86_64], 135, arguments) == want
            count["same" if theirs.run(AUDIT[X86_64], 135, arguments) == want else "libseccomp is wrong"] += 1

    compare()
    assert count["libseccomp is wrong"] < count["same"] / 20, count


# --- the engines' own profiles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", SETS)
def test_podmans_profile_means_what_libseccomp_makes_of_it(capabilities: str) -> None:
    profile = engine_profile(PODMAN, SETS[capabilities])
    code = compiler.compiled(profile, "x86_64")[0]
    ours, theirs = Machine(code), Machine(LIBRARY.program(profile))
    assert len(code) // 8 < 1000
    for architecture, first in ((X86_64, 0), (X86, 0), (X32, 0x40000000)):
        for number in range(first, first + 600):
            for arguments in (
                [0] * 6,
                [16, 0, 9],
                [1 << 32, 38, 0],
                [2**64 - 1] * 6,
                [0xFFFFFFFF],
                [131072],
                [8],
                [2, 1],
            ):
                got = ours.run(AUDIT[architecture], number, arguments)
                if architecture == X86 and number in (102, 117):
                    assert got == ALLOW  # both profiles allow the multiplexers outright
                assert got == theirs.run(AUDIT[architecture], number, arguments), (architecture, number, arguments)


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["X86_64", "X86", "X32", "AARCH64", "ARM"])
def test_tables_have_the_numbers_that_libseccomp_has(architecture: str) -> None:
    table = compiler._table(architecture)
    known = {name: LIBRARY.number(f"SCMP_ARCH_{architecture}", name) for name in table}
    # Negative: libseccomp is older than the call, or reaches it through x86's multiplexers.
    agreed = {name for name, number in known.items() if number >= 0}
    assert len(agreed) > 300
    assert {name: table[name] for name in agreed} == {name: known[name] for name in agreed}
