"""A seccomp filter under which some system calls do nothing and say that all went well, or that there are none.

Syncs, for trees that are thrown away when their build fails: dpkg and the maintainer scripts sync some 600 times in a
minbase, 8,000 times if dpkg unpacks as well. Ownership, for a user with no ids to give away: chown(2) would fail for
all of them but one. Unlike a preloaded library the filter needs nothing in the tree and works for static programs,
every libc and every architecture that the kernel runs. Keys, which are the host's in every namespace: those calls are
unknown then.

Source: seccomp(2); include/uapi/linux/{seccomp,filter,audit}.h; the kernel's system call tables.
"""

from toolkit.kernel import libc

_RET_ALLOW = 0x7FFF0000
_RET_ERRNO_0 = 0x00050000
_RET_ENOSYS = _RET_ERRNO_0 | 38

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data

# AUDIT_ARCH_*; fsync, fdatasync, sync, syncfs, sync_file_range, msync; chown, fchown, lchown, fchownat, setgroups
# (those that there are, with their 32 bit forms); add_key, request_key, keyctl (and x32's)
_X32 = 0x40000000
_X86_64 = (
    0xC000003E,
    (74, 75, 162, 306, 277, 26),
    (92, 93, 94, 260, 116),
    (248, 249, 250, _X32 + 248, _X32 + 249, _X32 + 250),
)
_I386 = (0x40000003, (118, 148, 36, 344, 314, 144), (182, 212, 95, 207, 16, 198, 298, 81, 206), (286, 287, 288))
_GENERIC = ((82, 83, 81, 267, 84, 227), (55, 54, 159), (217, 218, 219))
_ARM = (0x40000028, (118, 148, 36, 373, 341, 144), (182, 212, 95, 207, 16, 198, 325, 81, 206), (309, 310, 311))
_MACHINES = {
    "x86_64": (_X86_64, _I386),
    "aarch64": ((0xC00000B7, *_GENERIC), _ARM),
    "riscv64": ((0xC00000F3, *_GENERIC),),
    "loongarch64": ((0xC0000102, *_GENERIC),),
}


def program(machine: str, *, syncs: bool, owners: bool, keys: bool = False) -> "list[tuple[int, int, int, int]]":
    """The filter as (code, jump if true, jump if false, constant); [] for a machine whose numbers aren't known."""
    blocks = []
    for architecture, sync_numbers, owner_numbers, key_numbers in _MACHINES.get(machine, ()):
        silent = (sync_numbers if syncs else ()) + (owner_numbers if owners else ())
        unknown = key_numbers if keys else ()
        count = len(silent) + len(unknown)
        blocks += [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_IF_EQUAL, 0, count + 4, architecture), (_LOAD, 0, 0, _NUMBER)]
        blocks += [(_JUMP_IF_EQUAL, count - i, 0, number) for i, number in enumerate(silent)]
        blocks += [(_JUMP_IF_EQUAL, len(unknown) - i + 1, 0, number) for i, number in enumerate(unknown)]
        blocks += [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_ERRNO_0), (_RETURN, 0, 0, _RET_ENOSYS)]
    return [*blocks, (_RETURN, 0, 0, _RET_ALLOW)] if blocks else []


def install(*, syncs: bool = False, owners: bool = False, keys: bool = False) -> bool:
    """Put this thread and all that it starts under the filter; False on a machine whose numbers aren't known.

    Needs CAP_SYS_ADMIN in the caller's user namespace, or no_new_privs. Raises SystemCall.
    """
    instructions = program(libc.MACHINE, syncs=syncs, owners=owners, keys=keys)
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
