"""A seccomp filter that makes some system calls do nothing and succeed, or fail as if the kernel did not have them.

`syncs` is for trees that are thrown away when their build fails: dpkg and the maintainer scripts sync some 600 times in
a minbase, 8,000 times if dpkg unpacks as well. `owners` is for a user without subordinate ids: chown(2) would fail for
all ids but one. Unlike a preloaded library the filter needs nothing in the tree and works for static programs, every
libc and every architecture that the kernel runs.

`confined` is for programs that must not reach beyond their namespaces: what no namespace separates is hidden. Keys are
the host's everywhere; so are sockets of some families (AF_VSOCK leads to the hypervisor, or to every guest). A new user
namespace would give back each capability that was dropped, with the cgroups and file systems that go with it; in
debootstrap's chroot(2) the kernel itself refuses it (user_namespaces(7), EPERM).

Source: seccomp(2); include/uapi/linux/{seccomp,filter,audit}.h; the kernel's system call tables.
"""

from toolkit.kernel import libc

_RET_ALLOW = 0x7FFF0000
_RET_ERRNO_0 = 0x00050000
_RET_ENOSYS = _RET_ERRNO_0 | 38
_RET_EPERM = _RET_ERRNO_0 | 1
_RET_EAFNOSUPPORT = _RET_ERRNO_0 | 97

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_J*|BPF_K, …
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data; of an argument: its lower half
_NEWUSER = 0x10000000  # CLONE_NEWUSER

# The families that a network namespace isolates: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET.
_FAMILIES = (1, 2, 10, 16, 17)
_SOCKET, _SOCKETPAIR = 1, 8  # values of the argument `call` of socketcall(2)

# By AUDIT_ARCH_*, those calls that exist there, with their 32-bit forms:
# - silent: fsync, fdatasync, sync, syncfs, sync_file_range, msync
# - owners: chown, fchown, lchown, fchownat, setgroups
# - unknown: add_key, request_key, keyctl; clone3, whose flags no filter can see: libc falls back to clone;
#   io_uring_setup, io_uring_enter, io_uring_register, whose operations (a socket is one) no filter sees
# - flags: clone, unshare
# - sockets: socket, socketpair
# - multiplexed: socketcall, whose arguments no filter sees: it supports no family, which programs handle better than
#   ENOSYS (groupadd asks for the audit system, and stops)
_COMMON = (435, 425, 426, 427)
_X32 = 0x40000000  # its calls are those of x86_64 with this bit
_Calls = dict[str, tuple[int, ...]]


def _calls(silent: "_N", owners: "_N", keys: "_N", flags: "_N", sockets: "_N", multiplexed: "_N" = ()) -> _Calls:
    unknown = keys + _COMMON
    return {
        "silent": silent,
        "owners": owners,
        "unknown": unknown,
        "flags": flags,
        "sockets": sockets,
        "multiplexed": multiplexed,
    }


_N = tuple[int, ...]
_X86_64 = _calls((74, 75, 162, 306, 277, 26), (92, 93, 94, 260, 116), (248, 249, 250), (56, 272), (41, 53))
for _name in ("unknown", "flags", "sockets"):
    _X86_64[_name] += tuple(_X32 + number for number in _X86_64[_name])
_I386 = _calls(
    (118, 148, 36, 344, 314, 144),
    (182, 212, 95, 207, 16, 198, 298, 81, 206),
    (286, 287, 288),
    (120, 310),
    (359, 360),
    (102,),
)
_GENERIC = _calls((82, 83, 81, 267, 84, 227), (55, 54, 159), (217, 218, 219), (220, 97), (198, 199))
_ARM = _calls(
    (118, 148, 36, 373, 341, 144),
    (182, 212, 95, 207, 16, 198, 325, 81, 206),
    (309, 310, 311),
    (120, 337),
    (281, 288),
)
_MACHINES = {
    "x86_64": ((0xC000003E, _X86_64), (0x40000003, _I386)),
    "aarch64": ((0xC00000B7, _GENERIC), (0x40000028, _ARM)),
    "riscv64": ((0xC00000F3, _GENERIC),),
    "loongarch64": ((0xC0000102, _GENERIC),),
}


def program(machine: str, *, syncs: bool, owners: bool, confined: bool = False) -> "list[tuple[int, int, int, int]]":
    """The filter as (code, jump if true, jump if false, constant); [] for a machine whose numbers aren't known."""
    blocks: list[tuple[int, int, int, int]] = []
    first = (_LOAD, 0, 0, _FIRST)
    allow = (_RETURN, 0, 0, _RET_ALLOW)
    namespaces = [first, (_JUMP_IF_SET, 0, 1, _NEWUSER), (_RETURN, 0, 0, _RET_EPERM), allow]
    families = [
        first,
        *((_JUMP_IF_EQUAL, len(_FAMILIES) - i, 0, family) for i, family in enumerate(_FAMILIES)),
        (_RETURN, 0, 0, _RET_EAFNOSUPPORT),
        allow,
    ]
    multiplexed = [
        first,
        (_JUMP_IF_EQUAL, 1, 0, _SOCKET),
        (_JUMP_IF_EQUAL, 0, 1, _SOCKETPAIR),
        (_RETURN, 0, 0, _RET_EAFNOSUPPORT),
        allow,
    ]
    for architecture, calls in _MACHINES.get(machine, ()):
        silent = (calls["silent"] if syncs else ()) + (calls["owners"] if owners else ())
        answers = [(number, [(_RETURN, 0, 0, _RET_ERRNO_0)]) for number in silent]
        if confined:
            answers += [(number, [(_RETURN, 0, 0, _RET_ENOSYS)]) for number in calls["unknown"]]
            answers += [(number, namespaces) for number in calls["flags"]]
            answers += [(number, families) for number in calls["sockets"]]
            answers += [(number, multiplexed) for number in calls["multiplexed"]]
        block = [(_LOAD, 0, 0, _NUMBER)]
        for number, answer in answers:
            block += [(_JUMP_IF_EQUAL, 0, len(answer), number), *answer]
        block.append(allow)
        blocks += [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_IF_EQUAL, 0, len(block), architecture), *block]
    return [*blocks, allow] if blocks else []


def install(*, syncs: bool = False, owners: bool = False, confined: bool = False) -> bool:
    """Put this thread and everything it starts under the filter; False on a machine whose numbers aren't known.

    Needs CAP_SYS_ADMIN in the caller's user namespace, or no_new_privs. Raises SystemCall.
    """
    instructions = program(libc.MACHINE, syncs=syncs, owners=owners, confined=confined)
    if not instructions:
        return False
    code = libc.buffer(
        b"".join(
            code.to_bytes(2, "little") + bytes((true, false)) + constant.to_bytes(4, "little")
            for code, true, false, constant in instructions
        )
    )
    header = libc.buffer(len(instructions).to_bytes(8, "little") + libc.address(code).to_bytes(8, "little"))
    try:
        libc.syscall(libc.number("seccomp"), 1, 0, header)  # SECCOMP_SET_MODE_FILTER
    except OSError as error:
        libc.failed(f"seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={len(instructions)}, filter=…}})", error)
    return True
