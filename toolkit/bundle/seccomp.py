"""The default seccomp profile. It allows the calls that programs use, and not those used mainly to attack a host.

Sources: the man page of each call, and capabilities(7) for which calls a capability guards; seccomp(2) and the runtime
spec (config-linux.md, "Seccomp") for the format. A known call that is not listed fails with EPERM. A call newer than
the newest one listed fails with ENOSYS, so that a C library falls back on an older call.

Not allowed on purpose, although not all are guarded by a capability: add_key, keyctl and request_key (keyrings have no
namespaces), io_uring_* and userfaultfd (used by most recent kernel exploits), bpf and perf_event_open without their
capabilities, kexec, mount and the like, unshare, setns, and clone with a new namespace.
"""

import os

from toolkit.bundle.document import Spec

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown
lchown32 link linkat lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat
openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat
renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
sync_file_range2 arm_sync_file_range arm_fadvise64_64 syncfs tee truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes vmsplice write writev cachestat
getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr
fremovexattr removexattrat setxattr lsetxattr fsetxattr setxattrat
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
"""
_PROCESSES = """
execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill pidfd_open pidfd_send_signal prctl
arch_prctl prlimit64 getrlimit ugetrlimit setrlimit getrusage times uname sysinfo getcpu getrandom rseq
set_robust_list get_robust_list set_tid_address set_thread_area get_thread_area modify_ldt restart_syscall
process_mrelease seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self membarrier ptrace
getpid getppid gettid getpgid getpgrp setpgid getsid setsid capget capset
getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32
getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32
setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
getpriority setpriority nice ioprio_get ioprio_set sched_yield sched_getaffinity sched_setaffinity sched_getattr
sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max
sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction signal sigpending sigprocmask sigreturn sigsuspend sigaltstack
signalfd signalfd4 pause breakpoint cacheflush set_tls riscv_flush_icache riscv_hwprobe
"""
_MEMORY = """
brk madvise memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock
munlockall munmap pkey_alloc pkey_free pkey_mprotect map_shadow_stack remap_file_pages
"""
_WAITING_AND_TIME = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
poll ppoll ppoll_time64 pselect6 pselect6_time64 select _newselect alarm getitimer setitimer nanosleep clock_nanosleep
clock_nanosleep_time64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 gettimeofday time adjtimex
clock_adjtime clock_adjtime64 timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
"""
_TALKING = """
pipe pipe2 futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue
mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketpair
"""

# Calls guarded by a capability (capabilities(7)): allowed if the container has it.
_BY_CAPABILITY = {
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
    "move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname "
    "setns syslog umount umount2 unshare listmount statmount",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

# clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NEW_NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000

# Families of socket(2), as (mask, value): all below 48 except 38 (AF_ALG: with splice(2) it wrote to the page cache of
# read-only files, CVE-2026-31431) and 40 (AF_VSOCK: reaches the hypervisor, past every namespace). Masks and not
# comparisons, because a filter sees 64 bits where the kernel uses 32: 0x100000026 would be greater than 40.
_FAMILIES = (
    (0xFFFFFFE0, 0), (0xFFFFFFFC, 32), (0xFFFFFFFE, 36), (0xFFFFFFFF, 39), (0xFFFFFFFF, 41), (0xFFFFFFFE, 42),
    (0xFFFFFFFC, 44),
)  # fmt: skip

# personality(2): Linux, UNAME26, 32 bits, both, and the query of the current value. Not ADDR_NO_RANDOMIZE.
_PERSONALITIES = (0x0, 0x20000, 0x8, 0x20008, 0xFFFFFFFF)

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "loongarch64": ["SCMP_ARCH_LOONGARCH64"],
}


def _rule(names: str, action: str = "SCMP_ACT_ALLOW", **more: object) -> dict[str, object]:
    return {"names": names.split(), "action": action, **more}


def _if(index: int, op: str, value: int, second: int | None = None) -> list[dict[str, object]]:
    found: dict[str, object] = {"index": index, "value": value}
    if second is not None:
        found["valueTwo"] = second
    return [{**found, "op": op}]


def profile(capabilities: frozenset[str], machine: str) -> dict[str, object]:
    """linux.seccomp for a container with these bounding capabilities ("CAP_…") on `machine` (uname(2)). Pure."""
    rules = [_rule(" ".join((_FILES, _PROCESSES, _MEMORY, _WAITING_AND_TIME, _TALKING)))]
    rules += [_rule("socket", args=_if(0, "SCMP_CMP_MASKED_EQ", mask, value)) for mask, value in _FAMILIES]
    rules += [_rule("personality", args=_if(0, "SCMP_CMP_EQ", value)) for value in _PERSONALITIES]
    rules += [_rule(names) for capability, names in _BY_CAPABILITY.items() if capability in capabilities]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_rule("clone", args=_if(0, "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES, 0)))
        # Its flags are in memory, which a filter can't read. After ENOSYS the C library falls back on clone.
        rules.append(_rule("clone3", "SCMP_ACT_ERRNO", errnoRet=38))
    found: dict[str, object] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1}
    if machine in _ARCHITECTURES:
        found["architectures"] = _ARCHITECTURES[machine]
    return {**found, "syscalls": rules}


def default(spec: Spec) -> Spec:
    """The edit for `--seccomp default`: linux.seccomp by the capabilities in the spec at that point."""
    sets = (spec.get("process") or {}).get("capabilities") or {}
    names = frozenset(sets.get("bounding") or ())
    spec.setdefault("linux", {})["seccomp"] = profile(names, os.uname().machine)
    return spec
