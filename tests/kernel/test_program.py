"""Programs of system calls: what the machine code makes of each operation, natively and for the other machine."""

import errno
import fcntl
import os
import random
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.simulator import Simulator
from toolkit.errors import HostLacks, LaunchFailed
from toolkit.kernel import beneath, libc
from toolkit.kernel.program.program import DATA, MEMORY, OWN, Cell, Label, Program, sealed

F_GET_SEALS = 1034
MACHINES = ("x86_64", "aarch64")

Run = Callable[[Program], tuple[int, bytes, bytes]]


@pytest.fixture(params=MACHINES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Carry a program out on that machine: (exit code, stdout, stderr)."""
    emulator = shutil.which(f"qemu-{request.param}-static")
    if request.param != libc.MACHINE and emulator is None:
        pytest.skip(f"no emulator of {request.param}")

    def started(program: Program) -> tuple[int, bytes, bytes]:
        program.machine = request.param
        path = tmp_path / "program"
        path.write_bytes(program.image())
        path.chmod(0o755)
        command = [str(path)] if request.param == libc.MACHINE else [str(emulator), str(path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env={})
        return done.returncode, done.stdout, done.stderr

    return started


def told(err: bytes) -> tuple[str, int, int]:
    """(E or w, operation, number) of what a program wrote."""
    assert len(err) == 12, err
    return err[:4].rstrip(b"\0").decode(), int.from_bytes(err[4:8], "little"), int.from_bytes(err[8:], "little")


def shown(p: Program, *cells: Cell) -> None:
    """Write the 8 bytes of each cell to stdout, and end with 0."""
    for cell in cells:
        p.call("write", 1, cell.address, 8)
    p.call("exit_group", 0)


def numbers(out: bytes) -> list[int]:
    return [int.from_bytes(out[at : at + 8], "little", signed=True) for at in range(0, len(out), 8)]


def test_arithmetic_and_memory(run: Run) -> None:
    p = Program(2)
    a, b, c, d, e, f = (p.cell() for _ in range(6))
    p.own("set", -2, result=a)
    p.own("add", a, 44, result=b)
    p.own("subtract", 1, b, result=c)
    p.own("and", b, 0xF, result=d)
    p.own("set", Cell(a.at, 4), result=e)
    p.own("set", Cell(a.at, 1), result=f)
    shown(p, a, b, c, d, e, f)
    code, out, err = run(p)
    assert (code, numbers(out), err) == (0, [-2, 42, -41, 10, -2, 254], b"")


def test_bytes(run: Run) -> None:
    p = Program(2)
    text = p.text("one:two\nthree")
    found, none, same, other, copied, length = (p.cell() for _ in range(6))
    room, digits = p.room(8), p.room(24)
    p.own("find", text, text + 13, ord("\n"), ord(":"), result=found)
    p.own("find", text, text + 13, ord("!"), ord("!"), result=none)
    p.own("same", text + 4, p.text("two"), 3, result=same)
    p.own("same", text + 4, p.text("twi"), 3, result=other)
    p.own("copy", room, text, 3, result=copied)
    p.own("digits", 1234567890123456789, digits, 10, result=length)
    p.call("write", 1, digits, length)
    p.own("digits", 0o1777, digits, 8, result=length)
    p.call("write", 1, digits, length)
    p.call("write", 1, room, 8)
    shown(p, found, none, same, other, copied, length)
    code, out, err = run(p)
    assert (code, err) == (0, b"") and out[:31] == b"12345678901234567891777one\0\0\0\0\0"
    assert numbers(out[31:]) == [text + 3, text + 13, 1, 0, 3, 4]


def test_ways_through_it(run: Run) -> None:
    p = Program(2)
    count, three, loop, wrong = p.cell(), Label(), Label(), Label()
    p.place(loop)
    p.own("add", count, 1, result=count)
    p.when("if_equal", count, 3, three)
    p.when("if_less", count, 3, loop)
    p.place(wrong)
    p.call("exit_group", 9)
    p.place(three)
    p.when("if_any", count, 4, wrong)
    p.when("if_any", count, 2, fine := Label())
    p.go(wrong)
    p.place(fine)
    shown(p, count)
    assert run(p) == (0, (3).to_bytes(8, "little"), b"")


def test_a_routine_is_put_aside_and_comes_back_to_where_it_was_called(run: Run) -> None:
    p = Program(2)
    count, back, routine = p.cell(), p.cell(), Label()

    def add_ten() -> None:
        p.place(routine)
        p.own("add", count, 10, result=count)
        p.when("if_equal", count, 30, wrong := Label())
        p.go_to(back)
        p.place(wrong)
        p.fail(4096, "what it says")

    p.owned_by(lambda error: LaunchFailed("call it", because=error.doing))
    p.aside(add_ten)
    p.owned_by(None)
    for _ in range(3):
        p.set_label(after := Label(), back)
        p.go(routine)
        p.place(after)
        p.call("write", 1, count.address, 8)
    code, out, err = run(p)
    assert (code, numbers(out), told(err)[0]) == (1, [10, 20], "E")
    assert str(p.failure(*told(err)[1:])) == str(LaunchFailed("call it", because="what it says"))


def test_an_error_has_the_exits_that_it_was_given(run: Run) -> None:
    p = Program(2)
    missing, other, result = Label(), Label(), p.cell()
    p.call("openat", -100, "/no/such", 0, 0, on=((13, other), (2, missing)))
    p.place(other)
    p.call("exit_group", 9)
    p.place(missing)
    p.call("openat", -100, "/no/such", 0, 0, result=result, on=((0, any_ := Label()),))
    p.place(any_)
    shown(p, result)
    code, out, _ = run(p)
    assert (code, numbers(out)) == (0, [-2])


def test_another_error_ends_it_and_is_told(run: Run) -> None:
    p = Program(2)
    p.call("openat", -100, "/etc", 0, 0)
    number = p.call("openat", -100, "/no/such", 0, 0, on=((13, never := Label()),))
    p.place(never)
    p.call("exit_group", 9)
    code, _, err = run(p)
    assert (code, told(err)) == (1, ("E", number, 2))
    assert str(p.failure(number, 2)) == 'openat(AT_FDCWD, "/no/such", 0x0, 0o0): no such file or directory'


def test_warnings_and_failures_of_its_own(run: Run) -> None:
    p = Program(2)
    p.warn(77, lambda number: f"saw {number}")
    warned = len(p.operations) - 1
    assert run(p)[0] == 1  # it ends after its last operation
    assert told(run(p)[2]) == ("w", warned, 77) and p.warning(warned, 77) == "saw 77"
    p = Program(2)
    p.fail(5000)
    assert told(run(p)[2])[2] == 5000
    p = Program(2)
    p.told(-1)
    p.fail(5000)
    assert run(p) == (1, b"", b"")


@pytest.mark.parametrize("times", [0, 3, 2000])
def test_what_may_be_tried_again_is_not_tried_for_ever(times: int) -> None:
    p = Program(2)
    fd, left = p.cell(), [times]
    beneath.emit_open(p, 7, "/a", 0, fd)
    p.call("exit_group", 9)

    def kernel(_: Simulator, name: str, arguments: list[int]) -> int:
        if name == "openat2" and left[0]:
            left[0] -= 1
            return -errno.EAGAIN
        return 5

    simulator = Simulator(p, kernel)
    code = simulator.run()
    assert code == (1 if times == 2000 else 9)
    if times == 2000:
        assert simulator.told[0][2] == errno.EAGAIN and len(simulator.calls) < 1100
    else:
        assert simulator.cell(fd) == 5 and len(simulator.calls) == times + 2


BEYOND = {
    "memory at the end": lambda p: p.own("set", Cell(p._memory)),
    "memory far away": lambda p: p.own("set", Cell(1 << 62)),
    "a result behind the end": lambda p: p.operations.append(("set", (1,), 1 << 20, ())),
    "a copy to data": lambda p: p.own("copy", DATA + 24, p.room(8), 1),
    "a copy from code": lambda p: p.own("copy", p.room(8), 0x400000, 1),
    "a copy behind the end": lambda p: p.own("copy", p.room(8), DATA, 1 << 20),
    "a copy that wraps around": lambda p: p.own("copy", p.room(8), DATA, -1),
    "a search backwards": lambda p: p.own("find", p.room(8) + 8, MEMORY, 0, 0),
    "a search of everything": lambda p: p.own("find", MEMORY, -1, 1, 1),
    "a comparison behind the end": lambda p: p.own("same", p.room(8), DATA, 1 << 20),
    "digits behind the end": lambda p: p.own("digits", 1, p.room(8), 10),
    "digits to the stack": lambda p: p.own("digits", 1, 0x7FFF00000000, 10),
    "digits in base 16": lambda p: p.own("digits", 1, p.room(24), 16),
    "an unknown operation": lambda p: p.operations.append(("pivot_root", (0,), 0, ())),
}


@pytest.mark.parametrize("case", BEYOND)
def test_it_stays_within_its_bounds(case: str, run: Run) -> None:
    p = Program(2)
    BEYOND[case](p)
    number = len(p.operations) - 1
    p.call("exit_group", 9)
    code, _, err = run(p)
    assert (code, told(err)[:2]) == (1, ("E", number))
    if "unknown" not in case:
        assert told(err)[2] == 14


TAKES = {
    "label": 0,
    "set": 1,
    "warn": 1,
    "fail": 1,
    "copy": 3,
    "same": 3,
    "digits": 3,
    "find": 4,
}  # arguments; the rest take two


def random_program(seed: int) -> Program:
    """Operations of the interpreter's own with arguments that often miss; jumps go forwards only, so it ends."""
    dice = random.Random(seed)
    p = Program(2)
    texts = [p.text("x" * dice.randrange(40)) for _ in range(4)]
    room = p.room(4096 - 24 - 8 * 12)
    cells = [p.cell() for _ in range(12)]
    assert p._memory == 4096  # so the next page is not ours

    def argument() -> "int | Cell":
        return dice.choice(
            (
                lambda: dice.choice(cells),
                lambda: Cell(dice.randrange(4096), dice.choice((1, 4, 8))),
                lambda: dice.choice(texts) + dice.randrange(50),
                lambda: room + dice.randrange(4200),
                lambda: dice.choice((0, 1, 8, 255, 4095, 4096, -1, 1 << 63, MEMORY, MEMORY + 4096, DATA)),
                lambda: dice.randrange(64),
            )
        )()

    names = [name for name in OWN if name != "go"]
    for _ in range(60):
        name = dice.choice(names)
        label = Label()
        exits = ((0, label),) if name.startswith(("if_", "label")) or dice.random() < 0.9 else ()
        arguments = [argument() for _ in range(TAKES.get(name, 2))]
        if name == "digits" and dice.random() < 0.8:
            arguments[2] = dice.choice((8, 10))
        if name == "warn":
            p.warn(arguments[0], str)
        else:
            p.call(name, *arguments, result=dice.choice(cells), on=exits)
        label.at = len(p.operations) + dice.randrange(3)
    for _ in range(4):
        p.own("set", 0)
    p.call("write", 1, MEMORY, 4096)
    p.call("exit_group", 0)
    return p


@pytest.mark.parametrize("many", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_random_programs_do_what_the_simulator_says(many: int, run: Run) -> None:
    for seed in range(many):
        p = random_program(seed)
        # By descriptor: a program may overwrite the one that it tells its failures to.
        written: dict[int, list[bytes]] = defaultdict(list)

        def kernel(simulator: Simulator, name: str, arguments: list[int], written: Any = written) -> int:
            assert name == "write"
            written[arguments[0]].append(simulator.bytes(arguments[1], arguments[2]))
            return arguments[2]

        simulator = Simulator(p, kernel)
        code = simulator.run()
        got, out, err = run(p)
        assert (got, err) == (code, b"".join(written[2])), seed
        assert out == b"".join(written[1]), seed


def test_nothing_can_change_it() -> None:
    fd = sealed(Program().image())
    assert fcntl.fcntl(fd, F_GET_SEALS) & 0xF == 0xF
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_another_machine_is_an_error() -> None:
    with pytest.raises(HostLacks, match="riscv64"):
        Program(machine="riscv64").image()
