"""Values of config.json that have an explanation of their own: capabilities and kinds of namespaces. Pure data."""

CAPABILITIES: dict[str, str] = {
    "CHOWN": "Give files to any user and group. apt and dpkg need it.",
    "DAC_OVERRIDE": "Read, write and enter everything, whatever its permission bits say. apt and dpkg need it.",
    "DAC_READ_SEARCH": "Read every file and enter every folder; with open_by_handle_at(2) also outside the root.",
    "FOWNER": "Do what only a file's owner may: chmod, utimes, remove from a sticky folder. apt and dpkg need it.",
    "FSETID": "Keep setuid and setgid bits of a file that is changed.",
    "KILL": "Send signals to any user's processes (within its pid namespace).",
    "SETGID": "Become any group. su, sudo, apt and most daemons that start as root need it.",
    "SETUID": "Become any user. su, sudo, apt and most daemons that start as root need it.",
    "SETPCAP": "Hand capabilities on to children and drop them from the bounding set.",
    "LINUX_IMMUTABLE": "Set and clear the immutable and append-only flags of files (chattr +i).",
    "NET_BIND_SERVICE": "Listen on ports below 1024.",
    "NET_BROADCAST": "Unused by today's kernels.",
    "NET_ADMIN": "Configure the network: interfaces, addresses, routes, firewall. Only for a network of its own.",
    "NET_RAW": "Use raw and packet sockets: old ping, tcpdump; also to forge packets.",
    "IPC_LOCK": "Lock memory beyond RLIMIT_MEMLOCK, use huge pages.",
    "IPC_OWNER": "Use any user's System V message queues and shared memory.",
    "SYS_MODULE": "Load kernel modules: control of the whole host.",
    "SYS_RAWIO": "Use I/O ports, /dev/mem, raw disk commands: control of the whole host.",
    "SYS_CHROOT": "Use chroot(2), and setns(2) into mount namespaces.",
    "SYS_PTRACE": "Trace and change any process that it can see, of any user (strace, gdb).",
    "SYS_PACCT": "Switch process accounting on and off.",
    "SYS_ADMIN": "Mount, and a hundred other things: as good as root, and without a user namespace a way out.",
    "SYS_BOOT": "Use reboot(2), kexec_load(2). In a pid namespace of its own a reboot ends only the container.",
    "SYS_NICE": "Raise priorities, choose real-time scheduling, CPUs and memory nodes for any process.",
    "SYS_RESOURCE": "Exceed limits: hard rlimits, quotas, reserved disk blocks.",
    "SYS_TIME": "Set the clock of the whole host.",
    "SYS_TTY_CONFIG": "Use vhangup(2) and configure virtual consoles.",
    "MKNOD": "Make device files; the device rules decide whether they can be used.",
    "LEASE": "Take leases on any file (fcntl F_SETLEASE).",
    "AUDIT_WRITE": "Write to the kernel's audit log, as login, su and sshd do.",
    "AUDIT_CONTROL": "Configure the kernel's audit subsystem.",
    "SETFCAP": "Give capabilities to program files (setcap). Installing some packages needs it.",
    "MAC_OVERRIDE": "Override Smack.",
    "MAC_ADMIN": "Configure Smack and AppArmor.",
    "SYSLOG": "Read and clear the kernel's log (dmesg), see kernel addresses.",
    "WAKE_ALARM": "Wake the machine from sleep.",
    "BLOCK_SUSPEND": "Keep the machine from sleeping.",
    "AUDIT_READ": "Read the kernel's audit log.",
    "PERFMON": "Use performance counters and tracing (perf), since Linux 5.8.",
    "BPF": "Load eBPF programs, since Linux 5.8.",
    "CHECKPOINT_RESTORE": "Restore processes with CRIU, since Linux 5.9.",
}

# Kind: (words, flag of clone(2), page).
NAMESPACES: dict[str, tuple[str, str, str]] = {
    "pid": (
        "Process ids of its own: the first process is 1, and the host's cannot be seen or signalled. When process 1 "
        "ends, all others are killed. /proc must be mounted again, or it still shows the old ids.",
        "CLONE_NEWPID",
        "pid_namespaces(7)",
    ),
    "network": (
        "Interfaces, addresses, routes, firewall and ports of its own. A new one has only lo, and no connection to the "
        "outside until a hook or an engine gives it an interface.",
        "CLONE_NEWNET",
        "network_namespaces(7)",
    ),
    "mount": (
        "A mount table of its own: what is mounted or unmounted inside is not seen outside; whether the host's changes "
        "are seen inside depends on the mount propagation. pivot_root(2) needs it.",
        "CLONE_NEWNS",
        "mount_namespaces(7)",
    ),
    "ipc": (
        "System V message queues, semaphores, shared memory, and POSIX message queues of its own.",
        "CLONE_NEWIPC",
        "ipc_namespaces(7)",
    ),
    "uts": ("A host name and a NIS domain name of its own.", "CLONE_NEWUTS", "uts_namespaces(7)"),
    "user": (
        "User ids, group ids and capabilities of its own: root inside is an ordinary user outside, and its "
        "capabilities hold only for what belongs to the namespace. The only kind that an ordinary user may make.",
        "CLONE_NEWUSER",
        "user_namespaces(7)",
    ),
    "cgroup": (
        "The container's own cgroup looks like the root of the tree; the host's cgroups above it are not shown.",
        "CLONE_NEWCGROUP",
        "cgroup_namespaces(7)",
    ),
    "time": (
        "Offsets of the clocks that count from boot (monotonic, boottime). The date stays the host's.",
        "CLONE_NEWTIME",
        "time_namespaces(7)",
    ),
}
