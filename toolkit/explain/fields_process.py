"""The fields outside `linux` in plain words: (what it is for, what the kernel does with it, man pages, an example).

Pure data; keys are paths with `[]` for a list's elements, `{}` for any member of an object, `*` for a family.
"""

FIELDS: dict[str, tuple[str, str, str, str]] = {
    "ociVersion": (
        "The version of the OCI runtime spec that the document follows. ctk supports 1.x, and treats 0.x the same.",
        "Nothing: the kernel never sees it.",
        "",
        '"1.2.1"',
    ),
    "process": (
        "The program that the container runs: its command line, its user, its rights. When it ends, the container "
        "ends. Without it a container can be created but not started.",
        "As its last act, the container's first process calls execve(2) for this program.",
        "execve(2)",
        '{"args": ["sh"], "cwd": "/"}',
    ),
    "process.terminal": (
        "Whether the program gets a terminal of the container's own. Use true for an interactive shell, false for "
        "anything in a pipe, a systemd unit or CI.",
        "A pseudo-terminal is opened in the container's devpts and becomes the program's standard streams and "
        "controlling terminal; its other end goes to you, or through --console-socket to an engine.",
        "pty(7), pts(4)",
        "true",
    ),
    "process.consoleSize": (
        "How many rows and columns the new terminal has at first. Without it, `run` uses your terminal's size.",
        "ioctl(TIOCSWINSZ) on the pseudo-terminal.",
        "ioctl_tty(2)",
        '{"height": 24, "width": 80}',
    ),
    "process.consoleSize.height": (
        "Rows of the terminal.",
        "ws_row of TIOCSWINSZ.",
        "ioctl_tty(2)",
        "24",
    ),
    "process.consoleSize.width": (
        "Columns of the terminal.",
        "ws_col of TIOCSWINSZ.",
        "ioctl_tty(2)",
        "80",
    ),
    "process.user": (
        "The user that the program runs as: numbers, never names, because the runtime does not look names up in the "
        "image's /etc/passwd.",
        "setgroups(2), setresgid(2) and setresuid(2), in that order: after the last one the right to do the others "
        "is gone.",
        "credentials(7)",
        '{"uid": 1000, "gid": 1000}',
    ),
    "process.user.uid": (
        "The user id, as the container sees it. 0 is its root; without a user namespace that is the host's root too.",
        "setresuid(2); leaving 0 clears the effective and permitted capabilities unless they are ambient.",
        "setresuid(2), capabilities(7)",
        "1000",
    ),
    "process.user.gid": (
        "The primary group id, as the container sees it.",
        "setresgid(2).",
        "setresgid(2)",
        "1000",
    ),
    "process.user.umask": (
        "Permission bits that the program's new files do not get. Decimal in JSON: 18 is octal 022, the default.",
        "umask(2); kept over execve(2).",
        "umask(2)",
        "18",
    ),
    "process.user.additionalGids": (
        "The program's supplementary groups. Others are dropped: your own groups are not inherited.",
        "setgroups(2) with exactly this list.",
        "setgroups(2)",
        "[27, 44]",
    ),
    "process.user.username": (
        "A user by name: for Windows containers only. On Linux write uid and gid.",
        "Nothing on Linux.",
        "",
        '"user"',
    ),
    "process.args": (
        "The command line, one word per element; the first is the program, looked up in PATH of process.env. No shell "
        "reads it: `*`, `|`, `$HOME` and quotes mean nothing unless the program is a shell.",
        "execve(2) with this argv.",
        "execve(2)",
        '["sh", "-c", "echo $HOME"]',
    ),
    "process.commandLine": (
        "The command line in one string: for Windows containers only. On Linux write args.",
        "Nothing on Linux.",
        "",
        '"cmd.exe"',
    ),
    "process.env": (
        "The whole environment of the program, as NAME=value. Yours is not inherited. It should have PATH, in which "
        "args[0] is looked up. HOME is added from the image's /etc/passwd if it is missing.",
        "execve(2) with this envp.",
        "environ(7)",
        '["PATH=/usr/bin:/bin", "TERM=xterm"]',
    ),
    "process.cwd": (
        "The folder that the program starts in, an absolute path inside the container. It is made if it is missing.",
        "chdir(2) after the new root is `/`; a folder that turns out to be outside it is refused.",
        "chdir(2)",
        '"/"',
    ),
    "process.capabilities": (
        "The pieces of root's power that the program has. Root in the container can do only what these allow, so a "
        "short list is cheap protection. If all five sets are absent, it has none.",
        "prctl(PR_CAPBSET_DROP) for what is not in bounding, capset(2) for three sets, prctl(PR_CAP_AMBIENT) for "
        "the last.",
        "capabilities(7)",
        '{"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}',
    ),
    "process.capabilities.bounding": (
        "The most that anything in the container can ever have, setuid programs included. Start here.",
        "Each capability that is not listed is dropped by prctl(PR_CAPBSET_DROP), permanently and for all descendants.",
        "capabilities(7)",
        '["CAP_KILL", "CAP_NET_BIND_SERVICE"]',
    ),
    "process.capabilities.effective": (
        "What the kernel checks when the program does something privileged.",
        "capset(2); execve(2) recomputes it from the other sets and the file.",
        "capabilities(7)",
        '["CAP_KILL"]',
    ),
    "process.capabilities.inheritable": (
        "What a program file with inheritable capabilities may inherit. Nearly always empty; ambient needs it.",
        "capset(2).",
        "capabilities(7)",
        "[]",
    ),
    "process.capabilities.permitted": (
        "What the program may enable in its effective set.",
        "capset(2); one that the host cannot grant is left out with a warning.",
        "capabilities(7)",
        '["CAP_KILL"]',
    ),
    "process.capabilities.ambient": (
        "What a program keeps across execve(2) although it is not root: the way to give an ordinary user a capability. "
        "Only names that are also permitted and inheritable count.",
        "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE) for each.",
        "capabilities(7)",
        '["CAP_NET_BIND_SERVICE"]',
    ),
    "process.rlimits": (
        "Limits of this process and its children: open files, stack, core dumps. They hold for each process; to limit "
        "the container as a whole use linux.resources.",
        "prlimit(2) just before the program starts.",
        "getrlimit(2)",
        '[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]',
    ),
    "process.rlimits[].type": (
        "Which limit, by its C name.",
        "The first argument of setrlimit(2).",
        "getrlimit(2)",
        '"RLIMIT_NOFILE"',
    ),
    "process.rlimits[].soft": (
        "The value that is enforced; the process may raise it up to hard.",
        "rlim_cur.",
        "getrlimit(2)",
        "1024",
    ),
    "process.rlimits[].hard": (
        "The most that the process can raise soft to. Raising hard above yours needs CAP_SYS_RESOURCE.",
        "rlim_max.",
        "getrlimit(2)",
        "4096",
    ),
    "process.noNewPrivileges": (
        "Whether setuid programs (su, sudo, older versions of ping) are kept from gaining privileges. Set it for every "
        "program that does not need them; it also allows an unprivileged process to load a seccomp filter.",
        "prctl(PR_SET_NO_NEW_PRIVS, 1): inherited, and it cannot be undone.",
        "prctl(2)",
        "true",
    ),
    "process.apparmorProfile": (
        "The AppArmor profile that confines the program. It must be loaded on the host already.",
        "exec NAME is written to /proc/thread-self/attr/apparmor/exec; the next execve(2) switches.",
        "apparmor(7), aa-status(8)",
        '"container-default"',
    ),
    "process.oomScoreAdj": (
        "How likely the kernel is to kill this process when memory runs out: -1000 never, 1000 first. Lowering it "
        "below yours needs CAP_SYS_RESOURCE.",
        "Written to /proc/PID/oom_score_adj.",
        "proc(5)",
        "100",
    ),
    "process.scheduler": (
        "How the CPU scheduler treats the program. Leave it out unless you know that you need it.",
        "sched_setattr(2) before the privileges for it are given up.",
        "sched(7)",
        '{"policy": "SCHED_BATCH", "nice": 5}',
    ),
    "process.scheduler.policy": (
        "The class: SCHED_OTHER is the default, SCHED_BATCH and SCHED_IDLE yield, SCHED_FIFO and SCHED_RR run before "
        "all of these, SCHED_DEADLINE before all others.",
        "sched_policy of sched_setattr(2).",
        "sched(7)",
        '"SCHED_OTHER"',
    ),
    "process.scheduler.nice": (
        "For SCHED_OTHER and SCHED_BATCH: -20 gets the most CPU time, 19 the least.",
        "sched_nice of sched_setattr(2).",
        "nice(2)",
        "5",
    ),
    "process.scheduler.priority": (
        "For SCHED_FIFO and SCHED_RR: 1 to 99, higher comes first.",
        "sched_priority of sched_setattr(2).",
        "sched(7)",
        "10",
    ),
    "process.scheduler.flags": (
        "Details for sched_setattr(2), such as SCHED_FLAG_RESET_ON_FORK: children do not inherit the class.",
        "sched_flags of sched_setattr(2).",
        "sched_setattr(2)",
        '["SCHED_FLAG_RESET_ON_FORK"]',
    ),
    "process.scheduler.runtime": (
        "For SCHED_DEADLINE: nanoseconds of CPU time in each period.",
        "sched_runtime of sched_setattr(2).",
        "sched(7)",
        "10000000",
    ),
    "process.scheduler.deadline": (
        "For SCHED_DEADLINE: nanoseconds after the start of the period by which the program must have had its runtime.",
        "sched_deadline of sched_setattr(2).",
        "sched(7)",
        "30000000",
    ),
    "process.scheduler.period": (
        "For SCHED_DEADLINE: nanoseconds from one period to the next; 0 means the same as deadline.",
        "sched_period of sched_setattr(2).",
        "sched(7)",
        "30000000",
    ),
    "process.selinuxLabel": (
        "The SELinux context that the program runs in, on hosts that use SELinux.",
        "Written to /proc/thread-self/attr/exec; the next execve(2) switches.",
        "selinux(8)",
        '"system_u:system_r:container_t:s0"',
    ),
    "process.ioPriority": (
        "Which disk requests come first, if the disk's scheduler supports priorities (BFQ, mq-deadline).",
        "ioprio_set(2).",
        "ioprio_set(2)",
        '{"class": "IOPRIO_CLASS_BE", "priority": 4}',
    ),
    "process.ioPriority.class": (
        "IOPRIO_CLASS_RT comes first, IOPRIO_CLASS_BE is the default, IOPRIO_CLASS_IDLE is served only when there are "
        "no other requests.",
        "The upper bits of ioprio_set(2)'s value.",
        "ioprio_set(2)",
        '"IOPRIO_CLASS_BE"',
    ),
    "process.ioPriority.priority": (
        "Order within the class: 0 first, 7 last.",
        "The lower bits of ioprio_set(2)'s value.",
        "ioprio_set(2)",
        "4",
    ),
    "process.execCPUAffinity": (
        "For `ctk exec` only: the CPUs that the additional process may use.",
        "sched_setaffinity(2) before and after joining the container's cgroup.",
        "sched_setaffinity(2)",
        '{"initial": "0", "final": "0-3"}',
    ),
    "process.execCPUAffinity.initial": (
        "CPUs before the process is in the container's cgroup.",
        "sched_setaffinity(2).",
        "sched_setaffinity(2)",
        '"0"',
    ),
    "process.execCPUAffinity.final": (
        "CPUs afterwards.",
        "sched_setaffinity(2).",
        "sched_setaffinity(2)",
        '"0-3"',
    ),
    "root": (
        "The root file system: the folder that the container sees as `/`.",
        "It is bound onto itself, and pivot_root(2) makes it `/` of the container's mount namespace.",
        "pivot_root(2)",
        '{"path": "rootfs", "readonly": true}',
    ),
    "root.path": (
        "Its path on the host; a relative path starts at the bundle. Make a root with `ctk bootstrap`.",
        "ctk opens the folder once and gives the kernel the descriptor, never the path again.",
        "pivot_root(2)",
        '"rootfs"',
    ),
    "root.readonly": (
        "Whether writing to the root fails with EROFS. Mounts below it have options of their own. `ctk spec` writes "
        "true, as runc does; apt, dpkg and many daemons need `ctk spec --writable`.",
        "mount_setattr(2) with MOUNT_ATTR_RDONLY on the root's mount, as the last mount operation of all.",
        "mount_setattr(2)",
        "false",
    ),
    "hostname": (
        "The container's host name. It needs a uts namespace; without one the host's name would change.",
        "sethostname(2).",
        "sethostname(2), uts_namespaces(7)",
        '"web"',
    ),
    "domainname": (
        "The NIS domain name, which is hardly used today; it is not the DNS domain. It needs a uts namespace.",
        "setdomainname(2).",
        "setdomainname(2)",
        '"example"',
    ),
    "mounts": (
        "What is mounted in the container besides its root, in this order: kernel file systems (proc, sysfs, devpts), "
        "memory (tmpfs), and folders of the host (bind). Later mounts may cover earlier ones.",
        "Each is made in the container's own mount namespace, on a destination that was opened inside the root, so "
        "that no symlink in the image leads out of it.",
        "mount(2), mount_namespaces(7)",
        '[{"destination": "/proc", "type": "proc", "source": "proc"}]',
    ),
    "mounts[].destination": (
        "Where it appears in the container: an absolute path. It is made if it is missing.",
        "The target of mount(2) or move_mount(2).",
        "mount(2)",
        '"/data"',
    ),
    "mounts[].type": (
        "The kind of file system: proc, sysfs, tmpfs, devpts, mqueue, cgroup, or bind for a folder or file of the "
        "host. `cgroup` shows the container its own cgroups, on hosts with v1 and with v2.",
        "The file system type of mount(2). For a bind mount it means nothing; the option bind or rbind decides.",
        "filesystems(5), mount(2)",
        '"tmpfs"',
    ),
    "mounts[].source": (
        "For a bind mount, the path on the host (a relative one starts at the bundle), which must exist. For other "
        "types, a disk, or only a name that the mount table shows.",
        "open_tree(2) with OPEN_TREE_CLONE for a bind mount, else the source of mount(2).",
        "open_tree(2), mount(2)",
        '"/srv/data"',
    ),
    "mounts[].options": (
        "Words as in mount(8): ro, nosuid, nodev, noexec; bind or rbind; propagation (rprivate, rslave); rro for "
        "everything below as well; tmpcopyup, idmap. Any other word is passed to the file system (size=64m).",
        "Flags of mount(2), attributes of mount_setattr(2), and data for the file system.",
        "mount(8), mount_setattr(2)",
        '["rbind", "ro", "nosuid"]',
    ),
    "mounts[].*Mappings": (
        "An id-mapped mount: files of the host appear with other owners, while the owners on disk stay. uidMappings "
        "and gidMappings must be given together.",
        "mount_setattr(2) with MOUNT_ATTR_IDMAP and a user namespace that holds the mapping (Linux 5.12).",
        "mount_setattr(2)",
        '[{"containerID": 0, "hostID": 1000, "size": 1}]',
    ),
    "hooks": (
        "Programs to run at certain points of the container's life. They get the container's state as JSON on standard "
        "input. If one fails before the program is started, the launch stops.",
        "Nothing special: they are ordinary processes.",
        "",
        '{"poststop": [{"path": "/usr/bin/logger", "args": ["logger", "gone"]}]}',
    ),
    "hooks.prestart": (
        "Deprecated: runs at the same point as createRuntime, just before it. Old network set-ups use it.",
        "Runs in the host's namespaces, after the container's are made and before the new root is entered.",
        "",
        '[{"path": "/usr/bin/setup-net"}]',
    ),
    "hooks.createRuntime": (
        "Before the new root is entered, in the host's namespaces: the place to set up the network.",
        "Runs in the host's namespaces while the container's process waits.",
        "",
        '[{"path": "/usr/bin/setup-net"}]',
    ),
    "hooks.createContainer": (
        "Before the new root is entered, in the container's namespaces but with the host's files.",
        "Runs in the container's namespaces while `/` is still the host's.",
        "",
        '[{"path": "/usr/bin/mount-hook"}]',
    ),
    "hooks.startContainer": (
        "On `start`, inside the container, just before the program. Its path is inside the container.",
        "Runs in the container's namespaces and root.",
        "",
        '[{"path": "/bin/prepare"}]',
    ),
    "hooks.poststart": (
        "After the program has been started, in the host's namespaces.",
        "Runs in the host's namespaces beside the running program.",
        "",
        '[{"path": "/usr/bin/logger", "args": ["logger", "up"]}]',
    ),
    "hooks.poststop": (
        "After the container is deleted, in the host's namespaces: the place to clean up.",
        "Runs in the host's namespaces, after everything of the container has been removed.",
        "",
        '[{"path": "/usr/bin/logger", "args": ["logger", "gone"]}]',
    ),
    "hooks.*[].path": (
        "The program, as an absolute path on the host (for startContainer, in the container).",
        "execve(2) of it.",
        "execve(2)",
        '"/usr/bin/logger"',
    ),
    "hooks.*[].args": (
        "Its command line, with its own name first.",
        "argv of execve(2).",
        "execve(2)",
        '["logger", "hello"]',
    ),
    "hooks.*[].env": (
        "Its whole environment. Yours is not inherited.",
        "envp of execve(2).",
        "environ(7)",
        '["PATH=/usr/bin:/bin"]',
    ),
    "hooks.*[].timeout": (
        "Seconds after which it is killed and counts as failed. Without it a hook may run for ever.",
        "kill(2) with SIGKILL.",
        "",
        "10",
    ),
    "annotations": (
        "Notes for people and engines, under any names. Some change what ctk does: run.oci.keep_original_groups, "
        "org.systemd.property.*.",
        "Nothing: the kernel never sees them.",
        "",
        '{"org.example.owner": "me"}',
    ),
}
