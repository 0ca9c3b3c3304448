"""Words that have an explanation of their own. Pure data.

Values of config.json: capabilities and kinds of namespaces. What registries answer: error codes (distribution-spec 1.1,
"Error Codes"; TAG_INVALID is docker's own).
"""

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

REGISTRY_CODES: dict[str, str] = {
    "BLOB_UNKNOWN": (
        "The registry has no blob of this digest in this repository: its image was deleted there, or the upload of it"
        " never ended. Push the image again from where it is whole."
    ),
    "BLOB_UPLOAD_INVALID": "The registry broke an upload off, or did not understand a part of it. Push again.",
    "BLOB_UPLOAD_UNKNOWN": (
        "The registry has forgotten this upload, often because it took too long, or because several servers answer "
        "under one name. Push again."
    ),
    "DENIED": (
        "The registry knows who is asking, and who that is may not do this. Often the repository's owner has to allow"
        " it, or the name is not quite right. `ctk login REGISTRY` logs in as somebody else."
    ),
    "DIGEST_INVALID": (
        "What came has another digest than was said: it was damaged on its way. `ctk image check` finds out whether "
        "it is damaged where it is stored."
    ),
    "MANIFEST_BLOB_UNKNOWN": (
        "The manifest names a blob that the registry does not have. Layers come first, then the configuration, then "
        "the manifest: `ctk push` sends all that is missing."
    ),
    "MANIFEST_INVALID": (
        "The registry did not take the manifest: a field is wrong, or it is of a kind that this registry does not "
        "store (an index, an artifact, layers compressed with zstd)."
    ),
    "MANIFEST_UNKNOWN": (
        "The repository is there, and it has no image of this tag or digest. `ctk image tags REPOSITORY` lists the "
        "tags that it has."
    ),
    "NAME_INVALID": (
        "The name of the repository has letters that none may have: it is in lower case, with words between slashes."
    ),
    "NAME_UNKNOWN": "The registry has no repository of this name, or shows it only to those who are logged in.",
    "SIZE_INVALID": "What came is longer or shorter than was said: a connection or a proxy has cut it off. Push again.",
    "TAG_INVALID": "The tag and the manifest do not agree, or the tag has letters that none may have.",
    "TOOMANYREQUESTS": (
        "You have pulled too much in too short a time, as the registry counts: by name if you are logged in, else by "
        "address, which a whole office may share. Wait as long as the error says, log in with `ctk login REGISTRY`, "
        "or name a mirror in registries.conf. An image that is stored here already costs one HEAD and no download."
    ),
    "UNAUTHORIZED": (
        "The registry wants a login, or has not taken the one that it got. It says so for images that do not exist, "
        "too, so that nobody learns their names. `ctk login REGISTRY` stores a login; `ctk doctor --for images` shows"
        " which there are."
    ),
    "UNSUPPORTED": "The registry does not offer this: many can't delete, and some have no lists of tags.",
}
