"""Every code that an error or a finding can carry: (what it is, why it matters, what to do). Pure data.

E001 to E099 are errors of commands (toolkit/errors.py); E1 and W1 are findings about the document alone (E101 to E119
stop `run` and `create` too); E2 and W2 are findings about the bundle and this host, which only `ctk check` makes. A
code keeps its meaning for ever; one that is no longer used is not given to another.
"""

CODES: dict[str, tuple[str, str, str]] = {
    "E001": (
        "something expected went wrong",
        "The line before the hint says what ctk was doing and what stopped it.",
        "Follow the hint; with `--debug` a runtime verb tells each step.",
    ),
    "E010": (
        "the command line was not understood",
        "ctk does nothing rather than guess.",
        "`ctk COMMAND --help` lists what a command takes.",
    ),
    "E011": (
        "something that was named is not there",
        "A container, bundle, file, suite or package of that name does not exist where ctk looked.",
        "`ctk list` shows the containers of this --root; check the spelling and the folder you are in.",
    ),
    "E012": (
        "something is in use by somebody else",
        "A container id, a target folder or a lock can have one holder at a time.",
        "Take another id, or end what holds it: `ctk delete --force ID`.",
    ),
    "E013": (
        "the container is in another state than the command needs",
        "Each verb works in some states only: start a created one, kill a running one, delete a stopped one.",
        "`ctk state ID` tells the state.",
    ),
    "E020": (
        "a document breaks its standard",
        "config.json (or another document) says something that cannot be meant.",
        "`ctk check` lists everything that is wrong with the document, not only the first.",
    ),
    "E030": (
        "this host cannot do what was asked",
        "A feature of the kernel, or a program, is missing here or switched off.",
        "The hint names it. `ctk check` finds such things before the launch.",
    ),
    "E040": (
        "the kernel said no to a system call",
        "The message is the call as strace shows it, and the kernel's reason.",
        "Look up the call's error in its man page; `ctk explain` shows which field of config.json asked for the call.",
    ),
    "E042": (
        "the container's program could not be started",
        "Setting up the container failed at one of its steps; everything made so far was taken back.",
        "`ctk check` looks for the usual reasons, `ctk explain --run` shows the step that fails.",
    ),
    "E043": (
        "a program was not found or refused",
        "For a container: args[0] is not in the container's PATH, not there or not executable (the root is searched, "
        "not the host). For D-Bus: systemd refused what was asked of it.",
        "`ctk check` looks into the root and says what is missing: the file, its interpreter, a permission.",
    ),
    "E060": (
        "something is wrong with an archive",
        "A mirror, its signatures, indexes or packages.",
        "Try again later or with another mirror.",
    ),
    "E061": (
        "a server did not answer, or not with what was asked for",
        "Without the archive's indexes and packages nothing can be built.",
        "Check the network and the mirror's address; what is in the cache is not fetched again.",
    ),
    "E062": (
        "the archive's signature does not hold",
        "Unknown key, bad signature, wrong hash or an expired Release: the files may be somebody else's.",
        "Name the right keyring with --keyring. Don't switch the check off for a mirror you don't control.",
    ),
    "E063": (
        "a file of an archive is not in the format that it claims",
        "It was cut short, or it is not what it says.",
        "Try another mirror; if it stays, the archive is broken.",
    ),
    "E064": (
        "the packages cannot be installed together",
        "A dependency is missing from the suite or two of them conflict.",
        "Leave out what was added, or add the component or pocket that has it.",
    ),
    "E070": (
        "a step inside the new root failed",
        "A package's script ended with an error; its last lines and the log are shown.",
        "Read the log; it is the package's own message that tells.",
    ),
    "E080": (
        "a recipe went another way than it is written",
        "A command of a tutorial ended differently, or printed something else.",
        "The difference is shown; the clean-up has run.",
    ),
    "E099": (
        "it was interrupted",
        "Ctrl-C or a signal; everything unfinished was taken back.",
        "Run it again.",
    ),
    # The document alone.
    "E100": (
        "config.json is not JSON",
        "Nothing can be read from it, so nothing else was checked.",
        "Look at the line and column: a comma too many or too few, a missing quote.",
    ),
    "E101": (
        "a value is of the wrong type",
        "The standard fixes the type of every field; a runtime cannot guess what was meant.",
        "Numbers and true/false stand without quotes, lists in [ ], objects in { }.",
    ),
    "E102": (
        "a number does not fit its field",
        "The kernel keeps it in a fixed number of bits; it would arrive as another number.",
        "Take one in the range.",
    ),
    "E103": (
        "a text contains a NUL character",
        "C strings end there: the kernel would see only the part before it.",
        "Remove \\u0000.",
    ),
    "E104": (
        "a required value is missing or empty",
        "There is nothing sensible to assume for it.",
        "`ctk spec` writes a document that has all of them.",
    ),
    "E105": (
        "a word is none of those that the field takes",
        "The standard has a fixed list of words here; nothing else has a meaning.",
        "Take one of the list.",
    ),
    "E106": (
        "a path is not absolute",
        "It would depend on the folder that somebody happened to be in.",
        "Begin it with /.",
    ),
    "E107": (
        "something is given twice",
        "Two entries for one thing contradict each other, or one of them is a slip.",
        "Remove one.",
    ),
    "E108": (
        "a number is out of its range",
        "The kernel would refuse it, or take it for something else.",
        "Take one in the range that the message names.",
    ),
    "E109": (
        "a text is not in the form that the field takes",
        "The kernel parses it, and would refuse it.",
        "`ctk explain FIELD` shows an example.",
    ),
    "E110": (
        "a version of the standard that ctk does not carry out",
        "Fields may mean something else in it.",
        "ctk carries out 0.x and 1.x.",
    ),
    "W111": (
        "there is no process",
        "The container can be created but not started.",
        'Add "process": {"args": ["sh"], "cwd": "/"}.',
    ),
    "E112": (
        "a namespace is missing that a field needs",
        "Without a namespace of the container's own it would be the host that is changed.",
        "Add the namespace to linux.namespaces, or remove the field.",
    ),
    "E113": (
        "a sysctl that belongs to no namespace",
        "It would change the whole host.",
        "Set it on the host, or leave it out.",
    ),
    "E114": (
        "a joined namespace has its own already",
        "Mappings and offsets are fixed when a namespace is made; who joins takes them as they are.",
        "Remove the field, or the path of the namespace.",
    ),
    "E115": (
        "two fields contradict or miss each other",
        "One has a meaning only with the other, or only without it.",
        "The message names both.",
    ),
    "E117": (
        "a user or group id, or a range of them, that cannot be",
        "Ids go from 0 to 4294967294; the last number means no id at all.",
        "Take ids in that range; a mapping's size is at least 1.",
    ),
    "E118": (
        "memory.swap is less than memory.limit",
        "memory.swap counts memory and swap together.",
        "Make them equal for no swap at all, or -1 for no limit of swap.",
    ),
    "E119": (
        "a path leads upwards",
        "A cgroup would lie outside of the place that it is given.",
        "Remove the `..`.",
    ),
    "E120": (
        "an entry of env is not NAME=value",
        "Programs would not find it; runc refuses it, too.",
        "Write NAME=value, with nothing after = for an empty value.",
    ),
    "W121": (
        "a capability that nobody knows",
        "It is left out; the program may miss the right that was meant.",
        "Names are written as CAP_NET_ADMIN; capabilities(7) lists them.",
    ),
    "W123": (
        "a umask with more than nine bits",
        "The kernel ignores the others. JSON has no octal: 022 is written 18.",
        "Take 18 for 022, 63 for 077.",
    ),
    "W124": (
        "a mount's destination is not absolute",
        "It is taken below /; other runtimes refuse it.",
        "Begin it with /.",
    ),
    "W125": (
        "a new user namespace has no mappings",
        "ctk takes your own id for root and your subordinate ids for the rest; other runtimes refuse it.",
        "Write linux.uidMappings and gidMappings.",
    ),
    "W126": (
        "a device rule with unknown letters",
        "They are ignored.",
        "Use r, w and m.",
    ),
    "E127": (
        "an id that the container's user namespace does not have",
        "Becoming it, or mounting with it as the owner, is EINVAL: invalid argument.",
        "Map it in linux.uidMappings or linux.gidMappings, or do without it.",
    ),
    "W130": (
        "a field that the standard does not have",
        "A runtime must ignore it, so a typing error changes nothing, silently.",
        "Correct the name, or put it under annotations.",
    ),
    "W131": (
        "a mount option that looks like a typing error",
        "A word that is no option goes to the file system, which refuses it when the container is launched.",
        "Correct it, or leave it if the file system really has it.",
    ),
    "W132": (
        "the whole command line is in one word",
        "There is no shell in between: a program with spaces in its name is looked for.",
        'Write each word by itself, or ["sh", "-c", "…"].',
    ),
    "W133": (
        "shell characters where no shell is",
        "`|`, `>`, `*`, `&&` and `$NAME` reach the program as they are.",
        'Write ["sh", "-c", "…"].',
    ),
    "W134": (
        "a system call that nobody knows",
        "The rule is left out: what was to be allowed fails, what was to be forbidden is not.",
        "syscalls(2) lists the names.",
    ),
    # The bundle.
    "E201": (
        "the root file system is not there",
        "There is nothing to run.",
        "Make one: `ctk bootstrap SUITE DIR`, or write the right folder into root.path.",
    ),
    "E202": (
        "the program is not in the root",
        "args[0] is looked up inside the container, in the PATH of process.env; the host's programs are not there.",
        "Install it in the root, give its whole path, or correct PATH.",
    ),
    "E203": (
        "the program cannot be executed",
        "It is there, but it is a folder, or has no execute bit.",
        "chmod +x it in the root, or name another program.",
    ),
    "E204": (
        "the interpreter of a script is not in the root",
        'The kernel runs what the first line (#!) names; where it is missing execve(2) says "no such file".',
        "Install the interpreter in the root, or correct the first line.",
    ),
    "E205": (
        "the dynamic loader of the program is not in the root",
        'The kernel starts the loader first; where it is missing execve(2) says "no such file" about the program.',
        "Install the C library that the program was linked against, or take a static program.",
    ),
    "E206": (
        "the program is for another machine",
        'This CPU does not know its instructions: "exec format error".',
        "Take a root of this host's architecture, or set up qemu-user with binfmt_misc.",
    ),
    "E207": (
        "the program is neither an executable nor a script",
        'The kernel knows ELF files and scripts that begin with #!; else "exec format error".',
        'Add a first line such as #!/bin/sh, or run it as ["sh", "FILE"].',
    ),
    "E208": (
        "the program's file asks for capabilities that the container may not have",
        'The kernel does not start it with less than it asks for: "operation not permitted".',
        "Add them (`ctk spec --update --cap-add NAME`), or take a copy of the file: cp leaves the attribute behind.",
    ),
    "E209": (
        "the root is the host's own",
        "It would get the container's devices and mount points, and the container could change every file of the host.",
        "Take a root of its own: `ctk bootstrap SUITE DIR`.",
    ),
    "E210": (
        "the source of a bind mount is missing",
        "The launch fails at this mount.",
        "Make the source first, or correct it. A relative one begins at the bundle.",
    ),
    "E211": (
        "a bind mount of a file onto a folder, or the other way round",
        "The kernel mounts files on files and folders on folders only.",
        "Correct source or destination.",
    ),
    "E212": (
        "a hook's program is missing",
        "The launch (or the clean-up) fails when its turn comes.",
        "Correct hooks.*.path, or install the program.",
    ),
    "E213": (
        "a terminal without devpts",
        "The terminal is opened in the container's own /dev/pts.",
        'Add {"destination": "/dev/pts", "type": "devpts", "source": "devpts"} to mounts.',
    ),
    "W215": (
        "the root, or a folder in it, is closed to you",
        "What lies in it was not looked at: nothing is said of it, neither that it is there nor that it is missing.",
        "Ask as the one who will run it: `sudo ctk check`.",
    ),
    # This host.
    "E230": (
        "the kernel has no such namespace",
        "clone(2) with its flag would fail.",
        "Remove it from linux.namespaces, or take a newer kernel.",
    ),
    "E231": (
        "a namespace to join is not there",
        "Its process has ended, or the path is wrong.",
        "Correct linux.namespaces[].path.",
    ),
    "E232": (
        "it takes root, or a user namespace",
        "Only root makes namespaces without a user namespace around them.",
        "Run it as root, or make the document with `ctk spec --rootless`.",
    ),
    "E233": (
        "a security module that this host does not run",
        "The label or profile cannot be applied; ctk refuses rather than run without it.",
        "Remove the field on this host.",
    ),
    "E234": (
        "ctk does not drive Intel's resource director",
        "The launch is refused rather than carried out without it.",
        "Remove linux.intelRdt.",
    ),
    "E235": (
        "a limit whose controller this host does not have",
        "There is no file that the number could be written to.",
        "Switch the controller on (kernel command line, or cgroup.subtree_control above), or remove the limit.",
    ),
    "E236": (
        "linux.resources.unified on a host with cgroup v1",
        "It names files of v2, which are not there.",
        "Use the named fields of linux.resources.",
    ),
    "W237": (
        "a limit that only cgroup v1 knows, on a host with v2",
        "It is ignored.",
        "Remove it; `ctk explain FIELD` says what v2 has instead.",
    ),
    "E238": (
        "CPUs or memory nodes that this host does not have",
        "The kernel refuses a cpuset with them.",
        "`nproc --all` and `lscpu` tell what there is.",
    ),
    "E239": (
        "a size of huge pages that this host does not have",
        "There is no file for its limit.",
        "/sys/kernel/mm/hugepages lists the sizes.",
    ),
    "E240": (
        "a network interface that this host does not have",
        "It cannot be handed over.",
        "`ip link` lists them.",
    ),
    "W241": (
        "a file system that the kernel does not list",
        "Unless a module brings it, the mount fails with ENODEV.",
        "/proc/filesystems lists what there is.",
    ),
    "W250": (
        "a terminal is asked for, and there is none here",
        "process.terminal takes over your terminal; in a pipe, a unit or CI there is none to take over.",
        'Write "terminal": false (`ctk spec --update --no-tty`), or give --console-socket.',
    ),
    "W251": (
        "a package manager in a read-only root",
        "It will end with: Read-only file system.",
        "`ctk spec --update --writable` makes the root writable and adds the capabilities that installing needs.",
    ),
    "W252": (
        "a package manager without the capabilities that it needs",
        "apt changes its user and owners of files: it fails with setgroups, seteuid or chown errors.",
        "`ctk spec --update --writable` adds them.",
    ),
    "W253": (
        "a memory limit that hardly anything runs in",
        "The program will be killed at its start (exit code 137).",
        "Give it some megabytes: sizes are in bytes.",
    ),
}
