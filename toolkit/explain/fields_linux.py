"""`linux` but for its resources in our own words, in the form of fields_process.py. Pure data."""

FIELDS: dict[str, tuple[str, str, str, str]] = {
    "linux": (
        "Everything that only Linux has: namespaces, limits, devices, seccomp, what is hidden.",
        "See its fields.",
        "namespaces(7), cgroups(7)",
        '{"namespaces": [{"type": "pid"}, {"type": "mount"}]}',
    ),
    "linux.*Mappings": (
        "Which ids of the host the ids in a new user namespace are. With them, root in the container is nobody on "
        "the host. Without root you may map your own id, and those that /etc/subuid and /etc/subgid give you.",
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
        "How many ids in a row are mapped so.",
        "Third number of a line of the map.",
        "user_namespaces(7)",
        "65536",
    ),
    "linux.sysctl": (
        "Kernel parameters of the container's own namespaces: net.* needs a network namespace, fs.mqueue.* and some "
        "kernel.* an ipc namespace. Others would change the host and are refused.",
        "Written to files below /proc/sys by a process that stands in the container's namespaces.",
        "sysctl(8), proc(5)",
        '{"net.ipv4.ip_unprivileged_port_start": "80"}',
    ),
    "linux.cgroupsPath": (
        "Which cgroup the container is put into. Absolute: below the cgroup mount; relative or absent: near yours, "
        "named by the container's id. With --systemd-cgroup: slice:prefix:name.",
        "mkdir(2) below /sys/fs/cgroup, and the process's id into cgroup.procs (v2: CLONE_INTO_CGROUP).",
        "cgroups(7)",
        '"/my-containers/web"',
    ),
    "linux.namespaces": (
        "What the container has of its own. A kind that is not listed is the host's: no pid means it sees and can "
        "signal the host's processes, no network that it uses the host's network.",
        "clone3(2) with a CLONE_NEW* flag for each new one; setns(2) for one that is joined by path.",
        "namespaces(7), clone(2), setns(2)",
        '[{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]',
    ),
    "linux.namespaces[].type": (
        "The kind. pid: process ids. network: interfaces, ports, firewall. mount: the mount table. ipc: message "
        "queues, shared memory. uts: host name. user: ids and rights. cgroup: which cgroup is seen as the top. time: "
        "boot clocks.",
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
        "Device files to make in the container besides those that every container has. Whether they may be used is "
        "for linux.resources.devices to say.",
        "mknodat(2); in a user namespace, where it is refused, a bind mount of a node made outside.",
        "mknod(2)",
        '[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]',
    ),
    "linux.devices[].path": (
        "Where it is to be in the container.",
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
        "The device's number within the driver: `ls -l /dev/NAME` shows it behind the comma.",
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
        "Network interfaces of the host to hand over, by name. The host has them no longer until the container ends. "
        "(Runtime spec 1.3.)",
        "A netlink message that moves the interface into the container's network namespace, addresses and all.",
        "netlink(7), network_namespaces(7)",
        '{"eth1": {"name": "eth0"}}',
    ),
    "linux.netDevices{}.name": (
        "The interface's name inside the container; absent: as it was.",
        "Part of the same netlink message.",
        "netlink(7)",
        '"eth0"',
    ),
    "linux.seccomp": (
        "Which system calls the program may make, and what happens on others. The kernel is the largest thing that "
        "a container can attack; a filter makes it smaller.",
        "Compiled into a BPF program that runs before every system call, and is inherited.",
        "seccomp(2)",
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]}',
    ),
    "linux.seccomp.defaultAction": (
        "What happens on a system call that no rule names. SCMP_ACT_ERRNO makes the rules a list of what is allowed.",
        "The BPF program's last answer.",
        "seccomp(2)",
        '"SCMP_ACT_ERRNO"',
    ),
    "linux.seccomp.defaultErrnoRet": (
        "The error number that goes with the default action; 1 (EPERM) if absent. 38 (ENOSYS) makes programs look for "
        "another way.",
        "SECCOMP_RET_DATA.",
        "seccomp(2), errno(3)",
        "38",
    ),
    "linux.seccomp.architectures": (
        "The machines whose system calls the rules are for; a 32-bit program makes those of its own. The host's is "
        "always one of them.",
        "The filter asks for the architecture first.",
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
        "A Unix socket where an agent waits that decides on SCMP_ACT_NOTIFY calls.",
        "The listener's descriptor goes there by SCM_RIGHTS.",
        "seccomp_unotify(2)",
        '"/run/agent.sock"',
    ),
    "linux.seccomp.listenerMetadata": (
        "Any text for that agent.",
        "Nothing: it goes with the descriptor.",
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
        "What happens: SCMP_ACT_ALLOW, _ERRNO (fails), _KILL_PROCESS, _TRAP (a signal), _LOG (allow and tell), "
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
        "The rule holds only if all these comparisons of the call's arguments do. What a pointer points to cannot be "
        "looked at.",
        "Loads of seccomp_data.args and jumps.",
        "seccomp(2)",
        '[{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]',
    ),
    "linux.seccomp.syscalls[].args[].index": (
        "Which argument, from 0.",
        "The place in seccomp_data.args.",
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
        "private (neither), slave (host's come in), shared (both).",
        "mount(2) with MS_PRIVATE, MS_SLAVE or MS_SHARED on the root.",
        "mount_namespaces(7)",
        '"rslave"',
    ),
    "linux.maskedPaths": (
        "Paths to hide, mostly parts of /proc and /sys that tell about the host. What is not there needs no mask.",
        "/dev/null is bound over a file, an empty read-only tmpfs mounted over a folder.",
        "mount(2)",
        '["/proc/kcore", "/sys/firmware"]',
    ),
    "linux.readonlyPaths": (
        "Paths that can be seen but not written to, mostly parts of /proc that would change the host.",
        "Bound onto themselves with MOUNT_ATTR_RDONLY.",
        "mount_setattr(2)",
        '["/proc/sys"]',
    ),
    "linux.mountLabel": (
        "The SELinux context of the files in the container's mounts. ctk does not set it.",
        "Nothing by ctk; others give context= to mount(2).",
        "mount(8)",
        '"system_u:object_r:container_file_t:s0"',
    ),
    "linux.intelRdt": (
        "Shares of the CPU's cache and memory bandwidth on Intel machines. ctk does not drive it and refuses.",
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
        "Which parts of the L3 cache.",
        "A line of schemata.",
        "",
        '"L3:0=f"',
    ),
    "linux.intelRdt.memBwSchema": (
        "How much memory bandwidth.",
        "A line of schemata.",
        "",
        '"MB:0=20"',
    ),
    "linux.intelRdt.enableCMT": (
        "Count the cache's use.",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.intelRdt.enableMBM": (
        "Count the memory bandwidth's use.",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.intelRdt.enableMonitoring": (
        "Count both (runtime spec 1.3).",
        "A folder below mon_groups.",
        "",
        "true",
    ),
    "linux.memoryPolicy": (
        "From which memory nodes (NUMA) the program's memory comes. (Runtime spec 1.3.)",
        "set_mempolicy(2), kept over execve(2).",
        "set_mempolicy(2), numa(7)",
        '{"mode": "MPOL_BIND", "nodes": "0"}',
    ),
    "linux.memoryPolicy.mode": (
        "MPOL_BIND (only these nodes), MPOL_PREFERRED (rather these), MPOL_INTERLEAVE (in turn), MPOL_LOCAL, "
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
        "How nodes are counted when the cpuset changes.",
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
        "How far the clocks of a new time namespace are ahead: monotonic and boottime. The date is nobody's own.",
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
