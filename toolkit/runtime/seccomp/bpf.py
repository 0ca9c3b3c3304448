"""Classic BPF for struct seccomp_data: comparisons, and a search tree over system call numbers.

An instruction is a tuple (code, jump if true, jump if false, k); jumps count from the next instruction and only go
forward, conditional ones by at most 255. Unless a rule checks an argument, a program uses only loads of the number and
the architecture, jumps and returns: the kernel (5.11) runs such a program once for each number when it is loaded, and
never again for the calls that are always allowed.

Source: seccomp(2), Documentation/networking/filter.rst, seccomp_is_const_allow() in kernel/seccomp.c.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.seccomp.profile import Condition

    Instruction = tuple[int, int, int, int]
    Code = list[Instruction]

_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_LOW, _HIGH = (0, 4) if sys.byteorder == "little" else (4, 0)
_NEXT, _HELD, _FAILED = 0, -1, -2  # symbolic jump targets of a comparison, until the offsets are known


def answer(value: int) -> "Code":
    """The end of the program: return this action to the kernel."""
    return [(_RET, 0, 0, value)]


def dispatch(sections: "Sequence[tuple[int, Code]]", otherwise: int) -> "Code":
    """The program: the section of the calling architecture, or `otherwise` if it has none."""
    code: Code = [(_LD, 0, 0, _ARCHITECTURE)]
    for architecture, section in sections:
        # A section may be longer than the reach of a conditional jump.
        code += [(_JEQ, 1, 0, architecture), (_JA, 0, 0, len(section) + 1), (_LD, 0, 0, _NUMBER)]
        code += section
    return code + answer(otherwise)


def search(starts: "Sequence[int]", leaves: "Sequence[Code]") -> "Code":
    """A balanced tree: leaf i is for the numbers from starts[i] up to starts[i + 1]."""
    if len(starts) == 1:
        return leaves[0]
    middle = len(starts) // 2
    left = search(starts[:middle], leaves[:middle])
    right = search(starts[middle:], leaves[middle:])
    if len(left) <= 255:
        return [(_JGE, len(left), 0, starts[middle]), *left, *right]
    return [(_JGE, 0, 1, starts[middle]), (_JA, 0, 0, len(left)), *left, *right]


def decide(rules: "Sequence[tuple[Sequence[Condition], int]]", otherwise: int, bits: int) -> "Code":
    """The first rule whose conditions all hold decides. `bits`: the width of an argument, 32 or 64."""
    code: Code = []
    for conditions, value in rules:
        tests = [_comparison(condition, bits) for condition in conditions]
        length = sum(map(len, tests))
        at = 0
        for test in tests:
            end = at + len(test)
            for operation, true, false, k in test:
                at += 1
                places = {_NEXT: 0, _HELD: end - at, _FAILED: length + 1 - at}
                code.append((operation, places[true], places[false], k))
        code += answer(value)
    return code + answer(otherwise)


def _comparison(condition: "Condition", bits: int) -> "Code":
    """One condition on an argument of struct seccomp_data, unsigned, the high word first.

    With 32 bits only the low words are compared, as libseccomp does.
    """
    index, operator, value, second = condition
    low, high = value & 0xFFFFFFFF, value >> 32
    load_low = (_LD, 0, 0, _ARGUMENTS + 8 * index + _LOW)
    load_high = (_LD, 0, 0, _ARGUMENTS + 8 * index + _HIGH)
    wide = bits == 64
    code: Code = []
    if operator == "SCMP_CMP_MASKED_EQ":
        # Both sides are masked (seccomp_rule_add(3): "the masked datum value"); an empty mask makes all values equal.
        second &= value
        halves = [(load_high, high, second >> 32)] if wide else []
        for load, mask, wanted in (*halves, (load_low, low, second & 0xFFFFFFFF)):
            if mask:
                code += [load, (_AND, 0, 0, mask), (_JEQ, _NEXT, _FAILED, wanted)]
        return code
    if operator == "SCMP_CMP_EQ":
        code = [load_high, (_JEQ, _NEXT, _FAILED, high)] if wide else []
        return [*code, load_low, (_JEQ, _NEXT, _FAILED, low)]
    if operator == "SCMP_CMP_NE":
        code = [load_high, (_JEQ, _NEXT, _HELD, high)] if wide else []
        return [*code, load_low, (_JEQ, _FAILED, _NEXT, low)]
    if operator in ("SCMP_CMP_GT", "SCMP_CMP_GE"):
        if wide:
            code = [load_high, (_JGT, _HELD, _NEXT, high), (_JEQ, _NEXT, _FAILED, high)]
        return [*code, load_low, (_JGT if operator == "SCMP_CMP_GT" else _JGE, _NEXT, _FAILED, low)]
    if wide:
        code = [load_high, (_JGT, _FAILED, _NEXT, high), (_JEQ, _NEXT, _HELD, high)]
    return [*code, load_low, (_JGE if operator == "SCMP_CMP_LT" else _JGT, _FAILED, _NEXT, low)]


def packed(code: "Code") -> bytes:
    """The program for the kernel: an array of struct sock_filter (u16 code; u8 jt, jf; u32 k)."""
    order = sys.byteorder
    return b"".join(
        [
            operation.to_bytes(2, order) + bytes((true, false)) + k.to_bytes(4, order)
            for operation, true, false, k in code
        ]
    )
