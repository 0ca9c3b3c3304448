"""The fields of `linux`, except its resources, in plain words, in the form of fields_process.py. Pure data."""

FIELDS: dict[str, tuple[str, str, str, str]] = {
    "linux": (
        "Everything that only Linux has: namespaces, limits, devices, seccomp, hidden paths.",
        "See its fields.",
        "namespaces(7), cgroups(7)",
        '{"namespaces": [{"type": "pid"}, {"type": "mount"}]}',
    ),
    "linux.*Mappings": (
        "Which ids on the host the ids in a new user namespace stand for. With them, root in the container can be an "
        "unprivileged id on the host. Without root you may map your own id, and those that /etc/subuid and "
        "/etc/subgid give you.",
        "Lines of /proc/PID/uid_map and gid_map, written once, from outside.",
        "user_namespaces(7), subuid(5)",
        '[{"containerID": 0, "hostID": 100000, "size": 65536}]',
    ),
    "*Mappings[].containerID": (
        "The first id as the container sees it.",
        "First number of a line of the map.",
        "user_namespaces(7)",
        "0",
    ),
    "*Mappings[].hostID": (
        "The id on the host that it stands for.",
        "Second number of a line of the map.",
        "user_namespaces(7)",
        "100000",
    ),
    "*Mappings[].size": (
        "How many consecutive ids are mapped.",
        "Third number of a line of the map.",
        "user_namespaces(7)",
        "65536",
    ),
    "linux.sysctl": (
        "Kernel parameters of the container's own namespaces: net.* needs a network namespace, fs.mqueue.* and some "
        "kernel.* an ipc namespace. Others would change the host and are refused.",
        "Written to files below /proc/sys by a process in the container's namespaces.",
        "sysctl(8), proc(5)",
        '{"net.ipv4.ip_unprivileged_port_start": "80"}',
    ),
    "linux.cgroupsPath": (
        "Which cgroup the container is put into. An absolute path is below the cgroup mount, a relative one near your "
        "own cgroup. If absent, the cgroup is near yours and named after the container's id. With --systemd-cgroup: "
        "slice:prefix:name.",
        "mkdir(2) below /sys/fs/cgroup, CLONE_INTO_CGROUP (v2), and 0 written to each tasks (v1).",
        "cgroups(7)",
        '"/my-containers/web"',
    ),
    "linux.namespaces": (
        "Which namespaces the container has for itself. It shares the host's for each kind that is not listed: "
        "without pid it sees and can signal the host's processes, without network it uses the host's network.",
        "clone3(2) with a CLONE_NEW* flag for each new one; setns(2) for one that is joined by path.",
        "namespaces(7), clone(2), setns(2)",
        '[{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]',
    ),
    "linux.namespaces[].type": (
        "The kind. pid: process ids. network: interfaces, ports, firewall. mount: the mount table. ipc: message "
        "queues, shared memory. uts: host name. user: ids and capabilities. cgroup: which cgroup is seen as the root. "
        "time: clocks that count from boot.",
        "CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWCGROUP, "
        "CLONE_NEWTIME.",
        "namespaces(7)",
        '"network"',
    ),
    "linux.namespaces[].path": (
        "Join this namespace instead of making one: a file such as /proc/PID/ns/net or /run/netns/NAME.",
        "setns(2) on the opened file.",
        "setns(2), ip-netns(8)",
        '"/run/netns/blue"',
    ),
    "linux.devices": (
        "Device files to make in the container besides those that every container has. linux.resources.devices says "
        "whether they may be used.",
        "mknodat(2); in a user namespace, where that is refused, a bind mount of a node made outside.",
        "mknod(2)",
        '[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]',
    ),
    "linux.devices[].path": (
        "Its path in the container.",
        "The path of mknodat(2).",
        "mknod(2)",
        '"/dev/fuse"',
    ),
    "linux.devices[].type": (
        "c (or u) for a character device, b for a block device, p for a FIFO.",
        "S_IFCHR, S_IFBLK or S_IFIFO.",
        "mknod(2)",
        '"c"',
    ),
    "linux.devices[].major": (
        "The driver's number: `ls -l /dev/NAME` shows it before the comma.",
        "makedev(3).",
        "makedev(3)",
        "10",
    ),
    "linux.devices[].minor": (
        "The device's number within the driver: `ls -l /dev/NAME` shows it after the comma.",
        "makedev(3).",
        "makedev(3)",
        "229",
    ),
    "linux.devices[].fileMode": (
        "Permission bits, in decimal: 438 is octal 666, the default.",
        "The mode of mknodat(2), without the umask.",
        "mknod(2)",
        "438",
    ),
    "linux.devices[].uid": (
        "The owner, as the container sees it.",
        "fchownat(2).",
        "chown(2)",
        "0",
    ),
    "linux.devices[].gid": (
        "The group, as the container sees it.",
        "fchownat(2).",
        "chown(2)",
        "0",
    ),
    "linux.netDevices": (
        "Network interfaces of the host, by name, that are moved into the container. The host does not have them until "
        "the container ends. (Runtime spec 1.3.)",
        "A netlink message that moves the interface into the container's network namespace, addresses and all.",
        "netlink(7), network_namespaces(7)",
        '{"eth1": {"name": "eth0"}}',
    ),
    "linux.netDevices{}.name": (
        "The interface's name inside the container; unchanged if absent.",
        "Part of the same netlink message.",
        "netlink(7)",
        '"eth0"',
    ),
    "linux.seccomp": (
        "Which system calls the program may make, and what happens on others. The kernel is the largest attack surface "
        "of a container; a filter makes it smaller.",
        "Compiled into a BPF program that runs before every system call; child processes inherit it.",
        "seccomp(2)",
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]}',
    ),
    "linux.seccomp.defaultAction": (
        "What happens on a system call that no rule names. SCMP_ACT_ERRNO makes the rules a list of what is allowed.",
        "What the BPF program returns if no rule matches.",
        "seccomp(2)",
        '"SCMP_ACT_ERRNO"',
    ),
    "linux.seccomp.defaultErrnoRet": (
        "The error number for the default action; 1 (EPERM) if absent. 38 (ENOSYS) makes programs try another system "
        "call.",
        "SECCOMP_RET_DATA.",
        "seccomp(2), errno(3)",
        "38",
    ),
    "linux.seccomp.architectures": (
        "The architectures whose system calls the rules apply to; a 32-bit program has its own system calls. The "
        "host's architecture is always included.",
        "The filter checks the architecture first.",
        "seccomp(2)",
        '["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]',
    ),
    "linux.seccomp.flags": (
        "Flags of seccomp(2): log what is refused, apply to all threads.",
        "The flags of seccomp(2).",
        "seccomp(2)",
        '["SECCOMP_FILTER_FLAG_LOG"]',
    ),
    "linux.seccomp.listenerPath": (
        "The Unix socket of an agent that decides on SCMP_ACT_NOTIFY calls.",
        "The listener's descriptor is sent there by SCM_RIGHTS.",
        "seccomp_unotify(2)",
        '"/run/agent.sock"',
    ),
    "linux.seccomp.listenerMetadata": (
        "Any text for that agent.",
        "Nothing: it is sent along with the descriptor.",
        "",
        '"web"',
    ),
    "linux.seccomp.syscalls": (
        "The rules, each for one or more system calls.",
        "Comparisons in the BPF program.",
        "seccomp(2)",
        '[{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]',
    ),
    "linux.seccomp.syscalls[].names": (
        "System calls by name. One that this machine does not have is left out.",
        "Their numbers on each architecture.",
        "syscalls(2)",
        '["kexec_load", "open_by_handle_at"]',
    ),
    "linux.seccomp.syscalls[].action": (
        "What happens: SCMP_ACT_ALLOW, _ERRNO (fails), _KILL_PROCESS, _TRAP (a signal), _LOG (allow and log), "
        "_NOTIFY (ask an agent), _TRACE.",
        "SECCOMP_RET_*.",
        "seccomp(2)",
        '"SCMP_ACT_ERRNO"',
    ),
    "linux.seccomp.syscalls[].errnoRet": (
        "The error number for SCMP_ACT_ERRNO; 1 (EPERM) if absent.",
        "SECCOMP_RET_DATA.",
        "errno(3)",
        "1",
    ),
    "linux.seccomp.syscalls[].args": (
        "The rule matches only if all these comparisons of the call's arguments are true. What a pointer points to "
        "cannot be compared.",
        "Loads of seccomp_data.args and jumps.",
        "seccomp(2)",
        '[{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]',
    ),
    "linux.seccomp.syscalls[].args[].index": (
        "Which argument, from 0.",
        "The index into seccomp_data.args.",
        "seccomp(2)",
        "0",
    ),
    "linux.seccomp.syscalls[].args[].value": (
        "The number to compare with (for SCMP_CMP_MASKED_EQ: the mask).",
        "A constant of the BPF program.",
        "seccomp(2)",
        "40",
    ),
    "linux.seccomp.syscalls[].args[].valueTwo": (
        "For SCMP_CMP_MASKED_EQ: what the masked argument must be.",
        "A constant of the BPF program.",
        "seccomp(2)",
        "0",
    ),
    "linux.seccomp.syscalls[].args[].op": (
        "How to compare: SCMP_CMP_EQ, _NE, _LT, _LE, _GT, _GE, _MASKED_EQ.",
        "A jump of the BPF program.",
        "seccomp(2)",
        '"SCMP_CMP_EQ"',
    ),
    "linux.rootfsPropagation": (
        "Whether mounts made later on the host below the root appear in the container, and the other way round: "
        "private (neither), slave (the host's appear in the container), shared (both).",
        "mount(2) with MS_PRIVATE, MS_SLAVE or MS_SHARED on the root.",
        "mount_namespaces(7)",
        '"rslave"',
    ),
    "linux.maskedPaths": (
        "Paths to hide, mostly parts of /proc and /sys that reveal facts about the host. Missing ones are skipped.",
        "/dev/null is bind-mounted over a file, an empty read-only tmpfs is mounted over a folder.",
        "mount(2)",
        '["/proc/kcore", "/sys/firmware"]',
    ),
    "linux.readonlyPaths": (
        "Paths that can be seen but not written to, mostly parts of /proc that would change the host.",
        "Bind-mounted onto themselves with MOUNT_ATTR_RDONLY.",
        "mount_setattr(2)",
        '["/proc/sys"]',
    ),
    "linux.mountLabel": (
        "The SELinux context of the files in the container's mounts. ctk does not set it.",
        "Nothing with ctk; other runtimes pass context= to mount(2).",
        "mount(8)",
        '"system_u:object_r:container_file_t:s0"',
    ),
    "linux.intelRdt": (
        "Shares of the CPU's cache and memory bandwidth on Intel machines. ctk does not support it and refuses it.",
        "Files below /sys/fs/resctrl.",
        "",
        '{"closID": "guaranteed"}',
    ),
    "linux.intelRdt.closID": (
        "Name of the class of service: a folder below /sys/fs/resctrl.",
        "mkdir(2) there.",
        "",
        '"guaranteed"',
    ),
    "linux.intelRdt.schemata": (
        "Lines for the class's schemata file.",
        "Written to /sys/fs/resctrl/CLOSID/schemata.",
        "",
        '["L3:0=f"]',
    ),
    "linux.intelRdt.l3CacheSchema": (
        "Which parts of the L3 cache the class may use.",
        "A line of schemata.",
        "",
        '"L3:0=f"',
    ),
    "linux.intelRdt.memBwSchema": (
        "How much memory bandwidth the class may use.",
        "A line of schemata.",
        "",
        '"MB:0=20"',
    ),
    "linux.intelRdt.enableCMT": (
        "Monitor the use of the cache.",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.intelRdt.enableMBM": (
        "Monitor the use of memory bandwidth.",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.intelRdt.enableMonitoring": (
        "Monitor both (runtime spec 1.3).",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.memoryPolicy": (
        "The memory nodes (NUMA) that the program's memory comes from. (Runtime spec 1.3.)",
        "set_mempolicy(2), kept over execve(2).",
        "set_mempolicy(2), numa(7)",
        '{"mode": "MPOL_BIND", "nodes": "0"}',
    ),
    "linux.memoryPolicy.mode": (
        "MPOL_BIND (only these nodes), MPOL_PREFERRED (these first), MPOL_INTERLEAVE (in turn), MPOL_LOCAL, "
        "MPOL_DEFAULT.",
        "The mode of set_mempolicy(2).",
        "set_mempolicy(2)",
        '"MPOL_BIND"',
    ),
    "linux.memoryPolicy.nodes": (
        "Which nodes, as a list: 0-1,3.",
        "The node mask of set_mempolicy(2).",
        "set_mempolicy(2)",
        '"0"',
    ),
    "linux.memoryPolicy.flags": (
        "How node numbers are interpreted when the cpuset changes.",
        "Or-ed into the mode of set_mempolicy(2).",
        "set_mempolicy(2)",
        '["MPOL_F_STATIC_NODES"]',
    ),
    "linux.personality": (
        "Which system the kernel pretends to be.",
        "personality(2).",
        "personality(2)",
        '{"domain": "LINUX32"}',
    ),
    "linux.personality.domain": (
        "LINUX, or LINUX32: `uname -m` then says i686 on an x86_64 host.",
        "PER_LINUX or PER_LINUX32.",
        "personality(2)",
        '"LINUX32"',
    ),
    "linux.personality.flags": (
        "Nothing yet: the standard defines no flags.",
        "Nothing.",
        "",
        "[]",
    ),
    "linux.timeOffsets": (
        "How far the clocks of a new time namespace are ahead: monotonic and boottime. The date has no offset.",
        "Lines of /proc/self/timens_offsets, before the namespace has its first process.",
        "time_namespaces(7)",
        '{"boottime": {"secs": 86400}}',
    ),
    "linux.timeOffsets{}.secs": (
        "Seconds ahead, or behind if negative.",
        "Second word of a line of timens_offsets.",
        "time_namespaces(7)",
        "86400",
    ),
    "linux.timeOffsets{}.nanosecs": (
        "Nanoseconds to add, up to 999999999.",
        "Third word of a line of timens_offsets.",
        "time_namespaces(7)",
        "0",
    ),
}
