"""bpf(2): the device filter of a v2 cgroup, as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE.

The kernel calls the program for each open(2) and mknod(2) of a device in the cgroup (Linux 4.15), after those of the
cgroups above; 0 denies. Source: bpf(2), linux/bpf.h, Documentation/bpf/instruction-set.rst.
"""

import os

from toolkit.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI, _REPLACE = 2, 4
_NAME = b"ctk_devices"

# Opcodes: class, size or operation, source. Each instruction is 8 bytes: opcode, registers, offset, immediate.
_LDX_W = 0x61  # dst = *(u32 *)(src + offset)
_MOV32_K, _MOV32_X, _AND32_K, _RSH32_K = 0xB4, 0xBC, 0x54, 0x74
_JNE_K, _JNE_X, _JEQ_K, _EXIT = 0x56, 0x5E, 0x16, 0x95  # the jumps compare 32 bits (Linux 5.1)

_CHAR, _BLOCK = 2, 1  # BPF_DEVCG_DEV_*
_EVERY_ACCESS = 7


def _instruction(opcode: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return (
        bytes((opcode, src << 4 | dst))
        + offset.to_bytes(2, "little", signed=True)
        + (immediate & 0xFFFFFFFF).to_bytes(4, "little")
    )


def device_program(default: bool, exceptions: "Iterable[tuple[tuple[str, int, int], int]]") -> bytes:
    """The program for some rules (see runtime/cgroups/devices.py); access that no exception matches gets `default`.

    An exception that allows must cover all of the access asked for; one that denies matches if it covers any of it.
    """
    code = [
        _instruction(_LDX_W, 2, 1, 0),  # r2 = access_type: device type in the low 16 bits, access in the high 16
        _instruction(_MOV32_X, 3, 2),
        _instruction(_AND32_K, 2, immediate=0xFFFF),
        _instruction(_RSH32_K, 3, immediate=16),
        _instruction(_LDX_W, 4, 1, 4),  # r4 = major
        _instruction(_LDX_W, 5, 1, 8),  # r5 = minor
    ]
    for (kind, major, minor), access in exceptions:
        block: list[tuple[int, int, int, int]] = [(_JNE_K, 2, 0, _CHAR if kind == "c" else _BLOCK)]
        if default:
            # Denied if access & held != 0; so skip the rule if that is 0: r1 = access & held; if r1 == 0.
            block += [(_MOV32_X, 1, 3, 0), (_AND32_K, 1, 0, access), (_JEQ_K, 1, 0, 0)]
        elif access != _EVERY_ACCESS:
            block += [(_MOV32_X, 1, 3, 0), (_AND32_K, 1, 0, access), (_JNE_X, 1, 3, 0)]
        if major >= 0:
            block.append((_JNE_K, 4, 0, major))
        if minor >= 0:
            block.append((_JNE_K, 5, 0, minor))
        block += [(_MOV32_K, 0, 0, int(not default)), (_EXIT, 0, 0, 0)]
        for at, (opcode, dst, src, immediate) in enumerate(block):
            jumps = opcode in (_JNE_K, _JNE_X, _JEQ_K)
            code.append(_instruction(opcode, dst, src, len(block) - at - 1 if jumps else 0, immediate))
    code += [_instruction(_MOV32_K, 0, immediate=int(default)), _instruction(_EXIT)]
    return b"".join(code)


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _bpf(command: int, attributes: bytes, call: str) -> "tuple[int, bytes]":
    """bpf(2); the result and the attributes as the kernel left them. Raises SystemCall."""
    buffer = libc.buffer(attributes)
    try:
        return libc.syscall(libc.number("bpf"), command, buffer, len(attributes)), bytes(buffer)
    except OSError as error:
        libc.failed(call, error)


def load(code: bytes) -> int:
    """Load a device program; returns its close-on-exec descriptor.

    Raises SystemCall (EPERM: without CAP_BPF and CAP_NET_ADMIN, or in a user namespace).
    """
    instructions, licence = libc.buffer(code), libc.buffer(b"Apache-2.0\0")
    attributes = (
        _u32(_TYPE_CGROUP_DEVICE, len(code) // 8)
        + _u64(libc.address(instructions), libc.address(licence))
        + _u32(0, 0)
        + _u64(0)
        + _u32(0, 0)
        + _NAME.ljust(16, b"\0")
        + _u32(0, _ATTACH_CGROUP_DEVICE)
    )
    count = len(code) // 8
    fd, _ = _bpf(_PROG_LOAD, attributes, f"bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={count}}}, …)")
    return fd


def attached(cgroup_fd: int) -> "list[int]":
    """The ids of the device programs attached to this cgroup itself, oldest first. Raises SystemCall."""
    ids = libc.buffer(64 * 4)
    attributes = _u32(cgroup_fd, _ATTACH_CGROUP_DEVICE, 0, 0) + _u64(libc.address(ids)) + _u32(64, 0)
    _, after = _bpf(_PROG_QUERY, attributes, f"bpf(BPF_PROG_QUERY, {{target_fd={cgroup_fd}, BPF_CGROUP_DEVICE}}, …)")
    count = int.from_bytes(after[24:28], "little")
    data = bytes(ids)
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, count * 4, 4)]


def _by_id(program: int) -> int:
    fd, _ = _bpf(_PROG_GET_FD_BY_ID, _u32(program, 0, 0), f"bpf(BPF_PROG_GET_FD_BY_ID, {{prog_id={program}}}, …)")
    return fd


def attach(cgroup_fd: int, program_fd: int) -> None:
    """Make `program_fd` the only device program of the cgroup. Raises SystemCall.

    If one is attached, it is replaced atomically (BPF_F_REPLACE, Linux 5.6): the cgroup is never without a filter, and
    never under both. If there are several, as other managers leave them, all older ones are detached afterwards.
    """
    older = [_by_id(program) for program in attached(cgroup_fd)]
    try:
        replaced = older[0] if len(older) == 1 else -1
        flags = _ALLOW_MULTI | (_REPLACE if replaced >= 0 else 0)
        _bpf(
            _PROG_ATTACH,
            _u32(cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, flags, max(replaced, 0)),
            f"bpf(BPF_PROG_ATTACH, {{target_fd={cgroup_fd}, {program_fd}, BPF_CGROUP_DEVICE, flags={hex(flags)}}}, …)",
        )
        if replaced < 0:
            for fd in older:
                _bpf(
                    _PROG_DETACH,
                    _u32(cgroup_fd, fd, _ATTACH_CGROUP_DEVICE, 0),
                    f"bpf(BPF_PROG_DETACH, {{target_fd={cgroup_fd}, {fd}, BPF_CGROUP_DEVICE}}, …)",
                )
    finally:
        for fd in older:
            os.close(fd)
