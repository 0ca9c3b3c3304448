"""Programs of system calls: a flat list of operations, sealed in a memfd with a small interpreter of such lists.

A container's first process is made by such a program, so no Python ever stands in a container: neither its memory, nor
its file, which an image could write to through /proc/PID/exe (CVE-2019-5736). docs/decisions/0022-programs.md says why
this exists, and interpreter.c what each operation does; `Program` writes the list.

    the file's part        mapped at     what it is
    code                   0x400100      interpreter.c, for the machine
    data                   0x501000      header, strings and structures, operations, exits; read only
    (not in the file)      0x10000000    memory: zeros at first; results and buffers

Addresses are known when an operation is written, so a structure may hold them. An operation can get a string, bytes
(with a NUL behind them) or a number for each argument, or a `Cell` for what is in memory when it is carried out.
"""

import errno
import os

from toolkit.errors import HostLacks
from toolkit.kernel import libc
from toolkit.kernel.program.interpreter_code import CODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.errors import CtkError, SystemCall

_TEXT = 0x400000
_CODE = _TEXT + 0x100
_ENTRY = _CODE + 32
_FILE_DATA = 0x1000  # where in the file the data begins
DATA = 0x501000
MEMORY = 0x10000000
_HEADER = 24
_MACHINES = {"x86_64": 62, "aarch64": 183}

QUIT = _CODE
"""The address of a signal handler that ends the process with 128 and the signal's number."""

OWN = {
    name: 0xFF00 + number
    for number, name in enumerate(
        "go if_equal if_less if_any label set add subtract and copy find same digits fail warn".split()
    )
}
"""The interpreter's own operations (interpreter.c)."""

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_F_ADD_SEALS = 1033
_ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE


class Cell:
    """8 bytes of a program's memory, or the low 4 (signed) or 1 of them; as an argument: what is in it by then."""

    __slots__ = ("at", "size")

    def __init__(self, at: int, size: int = 8) -> None:
        self.at = at
        self.size = size

    @property
    def address(self) -> int:
        """Its address, for what a system call writes."""
        return MEMORY + self.at


class Label:
    """A place in a program, to go on at. It may be used before it is placed."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -1


if TYPE_CHECKING:
    Argument = int | str | bytes | Cell
    Exits = Sequence[tuple[int, Label]]
    Block = Callable[[], None]
    Owner = Callable[[SystemCall], CtkError]
    # Its name, its arguments, the place of its result, and where it goes on after an error (a test: if it holds).
    Operation = tuple[str, Sequence[Argument], int, Exits]


_KINDS = {8: 1, 4: 2, 1: 3}
_ALL = 0xFFFFFFFFFFFFFFFF
_TOLD, _FROM = Cell(8), Cell(16)  # interpreter.c
_TRIES = 1024


class Program:
    """A program that is being written. Pure: it makes no system call.

    `told`: the descriptor that a failure is written to: 12 bytes, `E` or (a warning) `w` and three zeros, the number of
    the operation, the errno. A program that fails exits with 1.
    """

    __slots__ = (
        "_again", "_aside", "_data", "_known", "_memory", "machine", "operations", "owners", "sayings", "warnings",
    )  # fmt: skip

    def __init__(self, told: int = -1, machine: str = libc.MACHINE) -> None:
        self.machine = machine
        self._data = bytearray(_HEADER)
        self._known: dict[str | bytes, int] = {}
        self._memory = 24  # the first 8 bytes are for results that nobody wants
        self.operations: list[Operation] = []
        self.owners: list[tuple[int, Owner | None]] = []  # (first operation, whose it is): see `owned_by`
        self.warnings: dict[int, Callable[[int], str]] = {}  # by operation: the text for its number
        self.sayings: dict[int, str] = {}  # by operation: what it is called if it fails
        self._aside: list[tuple[Owner | None, Block]] = []
        self._again: Label | None = None
        self.own("set", told, result=_TOLD)

    # What operations work on.

    def text(self, value: "str | bytes") -> int:
        """The address of a string of the data, with a NUL at its end; of the same one for the same value."""
        address = self._known.get(value)
        if address is None:
            address = self._known[value] = DATA + len(self._data)
            self._data += value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            self._data += b"\0"
        return address

    def data(self, value: bytes) -> int:
        """The address of a structure of the data, at a multiple of 8."""
        self._data += bytes(-len(self._data) % 8)
        address = DATA + len(self._data)
        self._data += value
        return address

    def words(self, *values: int) -> int:
        """The address of a structure of 8-byte words."""
        return self.data(b"".join([(value & _ALL).to_bytes(8, "little") for value in values]))

    def strings(self, values: "Sequence[str | bytes]") -> int:
        """The address of a NULL-terminated `char *[]`."""
        return self.words(*[self.text(value) for value in values], 0)

    def room(self, size: int) -> int:
        """The address of `size` bytes of memory, at a multiple of 8."""
        address = MEMORY + self._memory
        self._memory += size + -size % 8
        return address

    def cell(self) -> Cell:
        """A new cell."""
        return Cell(self.room(8) - MEMORY)

    # Operations.

    def call(self, name: str, *arguments: "Argument", result: "Cell | None" = None, on: "Exits" = ()) -> int:
        """Add the system call `name`; returns the operation's number.

        `on`: where to go on after which errno, 0 for any; after another one the program fails.
        """
        self.operations.append((name, arguments, result.at if result is not None else 0, on))
        return len(self.operations) - 1

    own = call
    """Add an operation of the interpreter's own (OWN); where it takes a place to go on at, see `go` and `when`."""

    def go(self, label: Label) -> None:
        """Go on at `label`."""
        self.operations.append(("go", (), 0, ((0, label),)))

    def go_to(self, place: Cell) -> None:
        """Go on at the place that is in a cell (`set_label`): back from a routine."""
        self.call("go", place)

    def set_label(self, label: Label, result: Cell) -> None:
        """Put a place into a cell, for `go_to`."""
        self.operations.append(("label", (), result.at, ((0, label),)))

    def when(self, test: str, a: "Argument", b: "Argument", label: Label) -> None:
        """Go on at `label` if the test holds: "if_equal", "if_less" (unsigned), "if_any" (a common bit)."""
        self.operations.append((test, (a, b), 0, ((0, label),)))

    def place(self, label: Label) -> None:
        """`label` is here, before the next operation."""
        label.at = len(self.operations)

    def placed(self) -> Label:
        """A label here."""
        label = Label()
        self.place(label)
        return label

    def aside(self, block: "Block") -> None:
        """Let `block` add its operations behind the end of the program, with the owner of those here.

        It is for what is seldom done: the program goes there by a label, and comes back by one.
        """
        self._aside.append((self.owner, block))

    @property
    def again(self) -> Label:
        """Where to go on after EAGAIN: at the operation that failed, a thousand times at most in a program."""
        if self._again is None:
            self._again = Label()
            self._aside.append((None, self._retry))
        return self._again

    def _retry(self) -> None:
        assert self._again is not None
        tries, over = self.cell(), Label()
        self.place(self._again)
        self.own("add", tries, 1, result=tries)
        self.when("if_less", _TRIES, tries, over)
        self.go_to(_FROM)
        self.place(over)
        self.fail(errno.EAGAIN, "openat2")

    def finish(self) -> None:
        """Add what was put aside. `image` does it; nothing can be added behind it."""
        if self._aside:
            self.call("exit_group", 1)
        for owner, block in self._aside:  # a block may put another one aside
            self.owned_by(owner)
            block()
        self._aside = []

    def close(self, fd: "int | Cell") -> None:
        """close(2)."""
        self.call("close", fd)

    def told(self, fd: int) -> None:
        """From here on failures are told to `fd`; -1: they are not told."""
        self.own("set", fd, result=_TOLD)

    def tell(self, address: int, size: int) -> None:
        """Write so many bytes to where failures are told."""
        self.call("write", _TOLD, address, size)

    def fail(self, number: "int | Cell", said: str = "") -> None:
        """Fail with `number`, an errno or (from 4096 on) one whose meaning only the owner knows.

        `said`: what to call it, in place of its operation's text.
        """
        at = self.own("fail", number)
        if said:
            self.sayings[at] = said

    def warn(self, number: "Argument", text: "Callable[[int], str]") -> None:
        """Tell a warning, and go on; `text` says what the number means, "" for nothing."""
        self.warnings[self.own("warn", number)] = text

    def owned_by(self, owner: "Owner | None") -> None:
        """The operations from here on belong to `owner`, which turns a failure of one into the error to report."""
        self.owners.append((len(self.operations), owner))

    @property
    def owner(self) -> "Owner | None":
        """Whose operations are being written."""
        return self.owners[-1][1] if self.owners else None

    def failure(self, number: int, error: int) -> "CtkError":
        """The error to report for a failure that was told: that of operation `number`, with this errno."""
        from toolkit.kernel.program import text

        found = None
        for first, owner in self.owners:
            if first > number:
                break
            found = owner
        failed = text.failed(self, number, error)
        return found(failed) if found is not None else failed

    def warning(self, number: int, value: int) -> str:
        """The text of a warning that was told."""
        return self.warnings[number](value)

    def bytes_at(self, address: int, size: int) -> bytes:
        """Data that operations were given, b"" if `address` is not in it."""
        at = address - DATA
        return bytes(self._data[at : at + size]) if 0 < at < len(self._data) else b""

    # The file.

    def image(self) -> bytes:
        """The ELF file (elf(5)). Raises HostLacks for a machine that the interpreter is not written for."""
        self.finish()
        machine = self.machine
        code = CODE.get(machine)
        if code is None:
            raise HostLacks(
                "start the container's program",
                because=f"ctk's programs can't be carried out on {machine!r}",
                hint="supported: " + ", ".join(sorted(CODE)),
            )
        operations, exits = self._encoded(libc.SYS if machine == libc.MACHINE else libc.numbers(machine))
        self._data += bytes(-len(self._data) % 8)
        header = (
            len(self._data) + len(operations) + len(exits), self._memory, len(self._data), len(self.operations),
            len(self._data) + len(operations), len(exits) // 4,
        )  # fmt: skip
        data = b"".join([number.to_bytes(4, "little") for number in header]) + self._data[_HEADER:] + operations + exits
        return _headers(machine, code, len(data), self._memory) + code + bytes(_FILE_DATA - 256 - len(code)) + data

    def _encoded(self, numbers: "dict[str, int]") -> "tuple[bytearray, bytes]":
        numbers = {**numbers, **OWN}
        encoded = bytearray(64 * len(self.operations))
        words = memoryview(encoded).cast("Q")
        exits: list[int] = []
        last_test = OWN["set"]  # those before it go on at their exit
        at = 0
        for name, arguments, result, listed in self.operations:
            number = numbers[name]
            words[at + 1] = result
            index, shift = at + 2, 16
            for value in arguments:
                kind = type(value)
                if kind is int:
                    words[index] = value & _ALL  # type: ignore[operator]
                elif kind is Cell:
                    number |= _KINDS[value.size] << shift  # type: ignore[union-attr]
                    words[index] = value.at  # type: ignore[union-attr]
                elif isinstance(value, int):
                    words[index] = value & _ALL
                else:
                    words[index] = self.text(value)  # type: ignore[arg-type]
                index += 1
                shift += 2
            if listed:
                if OWN["go"] <= numbers[name] < last_test:
                    words[index] = listed[0][1].at
                else:
                    number |= len(exits) << 32 | len(listed) << 48
                    for error, label in listed:
                        exits.append(error | label.at << 16)
            words[at] = number
            at += 8
        words.release()
        return encoded, b"".join([each.to_bytes(4, "little") for each in exits])


def _headers(machine: str, code: bytes, size: int, memory: int) -> bytes:
    def word(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    def load(flags: int, at: int, address: int, in_file: int, in_memory: int) -> bytes:
        # Any page size up to 64 KiB: file offset and address are the same modulo that.
        return (
            word(1)
            + word(flags)
            + word(at, 8)
            + word(address, 8) * 2
            + word(in_file, 8)
            + word(in_memory, 8)
            + (word(0x10000, 8))
        )

    # elf(5): ELFCLASS64, little endian; ET_EXEC.
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + word(2, 2) + word(_MACHINES[machine], 2) + word(1) + word(_ENTRY, 8) + word(64, 8) + bytes(8)
    header += word(0) + word(64, 2) + word(56, 2) + word(3, 2) + bytes(6)
    header += load(5, 0, _TEXT, 256 + len(code), 256 + len(code))
    header += load(4, _FILE_DATA, DATA, size, size)
    header += load(6, 0, MEMORY, 0, memory)
    return header + bytes(256 - len(header))


def sealed(data: bytes, mode: int = 0o111) -> int:
    """A close-on-exec memfd that holds `data`, executable and sealed (memfd_create(2), fcntl(2)). Raises OSError."""
    import fcntl

    try:
        fd = os.memfd_create("ctk", _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:
        # MFD_EXEC is Linux 6.3; before it every memfd was executable. Drop when 6.3 is our floor.
        fd = os.memfd_create("ctk", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        os.write(fd, data)
        # Not readable: the kernel keeps a process that runs it undumpable, so a created container cannot be ptraced
        # or looked into from another container of the same user (prctl(2), PR_SET_DUMPABLE).
        os.fchmod(fd, mode)
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
