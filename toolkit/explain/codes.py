"""Every code that an error or a finding can carry: (what it is, why it matters, what to do). Pure data.

E001 to E099 are errors of commands (toolkit/errors.py); E1 and W1 are findings about the document alone (E101 to E119
stop `run` and `create` too); E2 and W2 are findings about the bundle and this host, which only `ctk check` makes. A
code keeps its meaning for ever; one that is no longer used is not given to another.
"""

CODES: dict[str, tuple[str, str, str]] = {
    "E001": (
        "something expected went wrong",
        "The line before the hint says what ctk was doing and what stopped it.",
        "Follow the hint; with `--debug` a runtime verb reports each step.",
    ),
    "E010": (
        "the command line was not understood",
        "ctk does nothing rather than guess.",
        "`ctk COMMAND --help` lists a command's arguments and options.",
    ),
    "E011": (
        "something that was named does not exist",
        "There is no container, bundle, file, suite or package of that name where ctk looked.",
        "`ctk list` shows the containers of this --root; check the spelling and the folder you are in.",
    ),
    "E012": (
        "something is in use by another process",
        "A container id, a target folder or a lock can have only one holder at a time.",
        "Use another id, or stop the holder: `ctk delete --force ID`.",
    ),
    "E013": (
        "the container is not in the state that the command needs",
        "Each verb works only in some states: start needs a created container, kill a running, delete a stopped one.",
        "`ctk state ID` shows the state.",
    ),
    "E020": (
        "a document breaks its standard",
        "config.json (or another document) has a value that its standard does not allow.",
        "`ctk check` lists everything that is wrong with the document, not only the first.",
    ),
    "E030": (
        "this host cannot do what was asked",
        "A feature of the kernel, or a program, is missing here or switched off.",
        "The hint names it. `ctk check` finds such things before the launch.",
    ),
    "E040": (
        "the kernel refused a system call",
        "The message is the call as strace shows it, and the kernel's reason.",
        "Look up the call's error in its man page; `ctk explain` shows which field of config.json asked for the call.",
    ),
    "E042": (
        "the container's program could not be started",
        "Setting up the container failed at one of its steps; everything made so far was undone.",
        "`ctk check` looks for the usual reasons, `ctk explain --run` shows the step that fails.",
    ),
    "E043": (
        "a program was not found, or systemd refused a request",
        "For a container: args[0] is not in the container's PATH, not there or not executable (the root is searched, "
        "not the host). For D-Bus: systemd refused what was asked of it.",
        "`ctk check` searches the root and says what is missing: the file, its interpreter, or a permission.",
    ),
    "E060": (
        "something is wrong with an archive",
        "There is a fault in a mirror, or in its signatures, indexes or packages.",
        "Try again later or with another mirror.",
    ),
    "E061": (
        "a server did not answer, or did not send what was asked for",
        "Without an archive's indexes and packages nothing can be built, without its layers no image can be run.",
        "Check the network and the address; what has come is not fetched again. If a registry gave a word such as "
        "TOOMANYREQUESTS, `ctk explain TOOMANYREQUESTS` says what it means.",
    ),
    "E062": (
        "a signature or a hash is not valid",
        "An unknown key, a bad signature, a wrong hash, an expired Release; of an image, a digest that is not its "
        "bytes', or a policy that nothing satisfies: it may be forged, or damaged. Nothing of it was used.",
        "For an archive, name the right keyring with --keyring. Pull an image again; `ctk image check --repair` "
        "removes what is damaged in the store. Don't switch a check off for a server that you don't control.",
    ),
    "E063": (
        "a file of an archive or an image is not in the format that it claims",
        "It was cut short, or its content does not match its name or header.",
        "Try another mirror; if the error stays, the archive, or the image, is broken.",
    ),
    "E064": (
        "the packages cannot be installed together",
        "A dependency is missing from the suite, or two packages conflict.",
        "Remove packages that you added, or add the component or pocket that has the missing one.",
    ),
    "E070": (
        "a step inside the new root failed",
        "A package's script ended with an error; its last lines and the log are shown.",
        "Read the log: the package's own message gives the reason.",
    ),
    "E080": (
        "a recipe did not go as written",
        "A command of the tutorial ended with another exit code, or printed something else.",
        "The difference is shown; the clean-up has run.",
    ),
    "E099": (
        "it was interrupted",
        "Ctrl-C or a signal stopped it; everything unfinished was undone.",
        "Run it again.",
    ),
    # The document alone.
    "E100": (
        "config.json is not JSON",
        "Nothing can be read from it, so nothing else was checked.",
        "Look at the line and column: often it is an extra or missing comma, or a missing quote.",
    ),
    "E101": (
        "a value is of the wrong type",
        "The standard fixes the type of every field; a runtime cannot guess what was meant.",
        "Numbers and true/false are written without quotes, lists in [ ], objects in { }.",
    ),
    "E102": (
        "a number does not fit its field",
        "The kernel keeps it in a fixed number of bits; it would be stored as another number.",
        "Use a number in the range.",
    ),
    "E103": (
        "a string contains a NUL character",
        "C strings end there: the kernel would see only the part before it.",
        "Remove \\u0000.",
    ),
    "E104": (
        "a required value is missing or empty",
        "There is no sensible default for it.",
        "`ctk spec` writes a document that has all required values.",
    ),
    "E105": (
        "a value is not one of those that the field allows",
        "The standard has a fixed list of words here; nothing else has a meaning.",
        "Use a word from the list.",
    ),
    "E106": (
        "a path is not absolute",
        "Its meaning would depend on the current folder.",
        "Begin it with /.",
    ),
    "E107": (
        "something is given twice",
        "Two entries for one thing contradict each other, or one of them is a mistake.",
        "Remove one.",
    ),
    "E108": (
        "a number is out of range",
        "The kernel would refuse it, or take it for something else.",
        "Use a number in the range that the message names.",
    ),
    "E109": (
        "a string is not in the form that the field takes",
        "The kernel parses it, and would refuse it.",
        "`ctk explain FIELD` shows an example.",
    ),
    "E110": (
        "a version of the standard that ctk does not support",
        "Fields may have another meaning in it.",
        "ctk supports 0.x and 1.x.",
    ),
    "W111": (
        "there is no process",
        "The container can be created but not started.",
        'Add "process": {"args": ["sh"], "cwd": "/"}.',
    ),
    "E112": (
        "a namespace is missing that a field needs",
        "Without a namespace of its own, the container would change the host's setting.",
        "Add the namespace to linux.namespaces, or remove the field.",
    ),
    "E113": (
        "a sysctl that belongs to no namespace",
        "It would change the whole host.",
        "Set it on the host, or leave it out.",
    ),
    "E114": (
        "a namespace that is joined already has its own settings",
        "Mappings and offsets are fixed when a namespace is made; a process that joins it cannot change them.",
        "Remove the field, or the path of the namespace.",
    ),
    "E115": (
        "two fields contradict each other, or one lacks the other",
        "One of them has a meaning only with the other, or only without it.",
        "The message names both.",
    ),
    "E117": (
        "an invalid user or group id, or range of ids",
        "Ids go from 0 to 4294967294; 4294967295 means no id at all.",
        "Use ids in that range; a mapping's size is at least 1.",
    ),
    "E118": (
        "memory.swap is less than memory.limit",
        "memory.swap counts memory and swap together.",
        "Make them equal to allow no swap, or write -1 for no limit on swap.",
    ),
    "E119": (
        "a path leads upwards",
        "The cgroup would be outside the place that it is given.",
        "Remove the `..`.",
    ),
    "E120": (
        "an entry of env is not NAME=value",
        "Programs would not find it; runc refuses it, too.",
        "Write NAME=value, with nothing after = for an empty value.",
    ),
    "W121": (
        "an unknown capability",
        "It is left out; the program may lack the right that was meant.",
        "Names are written as CAP_NET_ADMIN; capabilities(7) lists them.",
    ),
    "W123": (
        "a umask with more than nine bits",
        "The kernel ignores the other bits. JSON has no octal numbers: 022 is written 18.",
        "Write 18 for 022, 63 for 077.",
    ),
    "W124": (
        "a mount's destination is not absolute",
        "ctk takes it as relative to /; other runtimes refuse it.",
        "Begin it with /.",
    ),
    "W125": (
        "a new user namespace has no mappings",
        "ctk maps your own id to root and your subordinate ids to the rest; other runtimes refuse it.",
        "Write linux.uidMappings and gidMappings.",
    ),
    "W126": (
        "a device rule with unknown letters",
        "They are ignored.",
        "Use r, w and m.",
    ),
    "E127": (
        "an id that the container's user namespace does not have",
        "Changing to it, or mounting with it as the owner, fails with EINVAL: invalid argument.",
        "Map it in linux.uidMappings or linux.gidMappings, or do without it.",
    ),
    "W130": (
        "a field that the standard does not have",
        "A runtime must ignore it, so a misspelled field has no effect, and nothing warns of it.",
        "Correct the name, or put it under annotations.",
    ),
    "W131": (
        "a mount option that looks misspelled",
        "An unknown word is passed to the file system, which refuses it when the container is launched.",
        "Correct it, or leave it if the file system really has this option.",
    ),
    "W132": (
        "the whole command line is in one word",
        "No shell splits it: the kernel looks for a program with spaces in its name.",
        'Write each word by itself, or ["sh", "-c", "…"].',
    ),
    "W133": (
        "shell characters without a shell",
        "`|`, `>`, `*`, `&&` and `$NAME` reach the program as they are.",
        'Write ["sh", "-c", "…"].',
    ),
    "W134": (
        "an unknown system call",
        "The rule is left out: a call that was meant to be allowed fails, one that was meant to be forbidden does not.",
        "syscalls(2) lists the names.",
    ),
    # The bundle.
    "E201": (
        "the root file system does not exist",
        "There is nothing to run.",
        "Make one: `ctk bootstrap SUITE DIR`, or write the right folder into root.path.",
    ),
    "E202": (
        "the program is not in the root",
        "args[0] is looked up inside the container, in the PATH of process.env; the host's programs are not there.",
        "Install it in the root, give its full path, or correct PATH.",
    ),
    "E203": (
        "the program cannot be executed",
        "It is there, but it is a folder, or has no execute bit.",
        "chmod +x it in the root, or name another program.",
    ),
    "E204": (
        "the interpreter of a script is not in the root",
        'The kernel runs the program that the first line (#!) names; if it is missing, execve(2) says "no such file".',
        "Install the interpreter in the root, or correct the first line.",
    ),
    "E205": (
        "the dynamic loader of the program is not in the root",
        'The kernel starts the loader first; if it is missing, execve(2) says "no such file" about the program.',
        "Install the C library that the program was linked against, or use a static program.",
    ),
    "E206": (
        "the program is for another machine",
        'This CPU cannot run its instructions: "exec format error".',
        "Use a root of this host's architecture, or set up qemu-user with binfmt_misc.",
    ),
    "E207": (
        "the program is neither an executable nor a script",
        'The kernel runs ELF files and scripts that begin with #!; anything else is an "exec format error".',
        'Add a first line such as #!/bin/sh, or run it as ["sh", "FILE"].',
    ),
    "E208": (
        "the program's file asks for capabilities that the container may not have",
        'The kernel does not start it with less than it asks for: "operation not permitted".',
        "Add them (`ctk spec --update --cap-add NAME`), or use a copy of the file: cp does not copy the attribute.",
    ),
    "E209": (
        "the root is the host's own",
        "The container's devices and mount points would be made in it, and the container could change every file of "
        "the host.",
        "Use a root of its own: `ctk bootstrap SUITE DIR`.",
    ),
    "E210": (
        "the source of a bind mount is missing",
        "The launch fails at this mount.",
        "Create the source first, or correct it. A relative path starts at the bundle.",
    ),
    "E211": (
        "a bind mount of a file onto a folder, or of a folder onto a file",
        "The kernel mounts files on files and folders on folders only.",
        "Correct source or destination.",
    ),
    "E212": (
        "a hook's program is missing",
        "The launch (or the clean-up) fails when it reaches the hook.",
        "Correct hooks.*.path, or install the program.",
    ),
    "E213": (
        "a terminal without devpts",
        "The terminal is opened in the container's own /dev/pts.",
        'Add {"destination": "/dev/pts", "type": "devpts", "source": "devpts"} to mounts.',
    ),
    "W215": (
        "you may not read the root, or a folder in it",
        "Its content was not checked: findings say neither that a file in it exists nor that it is missing.",
        "Run the check as the user who will run the container: `sudo ctk check`.",
    ),
    # This host.
    "E230": (
        "the kernel has no such namespace",
        "clone(2) with its flag would fail.",
        "Remove it from linux.namespaces, or use a newer kernel.",
    ),
    "E231": (
        "a namespace to join does not exist",
        "Its process has ended, or the path is wrong.",
        "Correct linux.namespaces[].path.",
    ),
    "E232": (
        "it needs root, or a user namespace",
        "Only root may make namespaces without a user namespace around them.",
        "Run it as root, or make the document with `ctk spec --rootless`.",
    ),
    "E233": (
        "a security module that this host does not run",
        "The label or profile cannot be applied, and ctk does not run the container without it.",
        "Remove the field on this host.",
    ),
    "E234": (
        "ctk does not support Intel Resource Director Technology",
        "ctk refuses the launch, because it could not apply the setting.",
        "Remove linux.intelRdt.",
    ),
    "E235": (
        "a limit whose controller this host does not have",
        "There is no file to write the limit to.",
        "Enable the controller (kernel command line, or cgroup.subtree_control of the parent), or remove the limit.",
    ),
    "E236": (
        "linux.resources.unified on a host with cgroup v1",
        "It names files of cgroup v2, which do not exist here.",
        "Use the named fields of linux.resources.",
    ),
    "W237": (
        "a limit that only cgroup v1 has, on a host with v2",
        "It is ignored.",
        "Remove it; `ctk explain FIELD` says what v2 has instead.",
    ),
    "E238": (
        "CPUs or memory nodes that this host does not have",
        "The kernel refuses a cpuset with them.",
        "`nproc --all` and `lscpu` show what there is.",
    ),
    "E239": (
        "a huge page size that this host does not have",
        "There is no file to write its limit to.",
        "/sys/kernel/mm/hugepages lists the sizes.",
    ),
    "E240": (
        "a network interface that this host does not have",
        "It cannot be moved into the container.",
        "`ip link` lists them.",
    ),
    "W241": (
        "a file system that the kernel does not list",
        "Unless a kernel module provides it, the mount fails with ENODEV.",
        "/proc/filesystems lists what there is.",
    ),
    "W250": (
        "the container asks for a terminal, and there is none here",
        "process.terminal takes over your terminal; in a pipe, a unit or CI there is none to take over.",
        'Write "terminal": false (`ctk spec --update --no-tty`), or give --console-socket.',
    ),
    "W251": (
        "a package manager in a read-only root",
        "It will fail with: Read-only file system.",
        "`ctk spec --update --writable` makes the root writable and adds the capabilities that installing needs.",
    ),
    "W252": (
        "a package manager without the capabilities that it needs",
        "apt changes its user and the owners of files: it fails with setgroups, seteuid or chown errors.",
        "`ctk spec --update --writable` adds them.",
    ),
    "W253": (
        "a memory limit that is too small for almost any program",
        "The program will be killed at its start (exit code 137).",
        "Give it some megabytes: sizes are in bytes.",
    ),
}
