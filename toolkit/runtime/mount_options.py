"""Translate `mounts[].options` (runtime spec, config.md "Linux mount options") to the kernel's flags and data. Pure."""

from toolkit.kernel import mounts as m

# Name: (flag of mount(2), is the flag cleared?). A name that is in no table is passed to the file system as data.
FLAGS = {
    "async": (m.MS_SYNCHRONOUS, True),
    "atime": (m.MS_NOATIME, True),
    "bind": (m.MS_BIND, False),
    "defaults": (0, False),
    "dev": (m.MS_NODEV, True),
    "diratime": (m.MS_NODIRATIME, True),
    "dirsync": (m.MS_DIRSYNC, False),
    "exec": (m.MS_NOEXEC, True),
    "iversion": (m.MS_I_VERSION, False),
    "lazytime": (m.MS_LAZYTIME, False),
    "loud": (m.MS_SILENT, True),
    "mand": (m.MS_MANDLOCK, False),
    "noatime": (m.MS_NOATIME, False),
    "nodev": (m.MS_NODEV, False),
    "nodiratime": (m.MS_NODIRATIME, False),
    "noexec": (m.MS_NOEXEC, False),
    "noiversion": (m.MS_I_VERSION, True),
    "nolazytime": (m.MS_LAZYTIME, True),
    "nomand": (m.MS_MANDLOCK, True),
    "norelatime": (m.MS_RELATIME, True),
    "nostrictatime": (m.MS_STRICTATIME, True),
    "nosuid": (m.MS_NOSUID, False),
    "nosymfollow": (m.MS_NOSYMFOLLOW, False),
    "rbind": (m.MS_BIND | m.MS_REC, False),
    "relatime": (m.MS_RELATIME, False),
    "remount": (m.MS_REMOUNT, False),
    "ro": (m.MS_RDONLY, False),
    "rw": (m.MS_RDONLY, True),
    "silent": (m.MS_SILENT, False),
    "strictatime": (m.MS_STRICTATIME, False),
    "suid": (m.MS_NOSUID, True),
    "symfollow": (m.MS_NOSYMFOLLOW, True),
    "sync": (m.MS_SYNCHRONOUS, False),
}
PROPAGATION = {
    "private": m.MS_PRIVATE,
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "unbindable": m.MS_UNBINDABLE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "rshared": m.MS_SHARED | m.MS_REC,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
# mount_setattr(2) with AT_RECURSIVE: (attribute, is it cleared?).
RECURSIVE = {
    "rro": (m.MOUNT_ATTR_RDONLY, False),
    "rrw": (m.MOUNT_ATTR_RDONLY, True),
    "rnosuid": (m.MOUNT_ATTR_NOSUID, False),
    "rsuid": (m.MOUNT_ATTR_NOSUID, True),
    "rnodev": (m.MOUNT_ATTR_NODEV, False),
    "rdev": (m.MOUNT_ATTR_NODEV, True),
    "rnoexec": (m.MOUNT_ATTR_NOEXEC, False),
    "rexec": (m.MOUNT_ATTR_NOEXEC, True),
    "rnodiratime": (m.MOUNT_ATTR_NODIRATIME, False),
    "rdiratime": (m.MOUNT_ATTR_NODIRATIME, True),
    "rrelatime": (m.MOUNT_ATTR_RELATIME, False),
    "rnorelatime": (m.MOUNT_ATTR_RELATIME, True),
    "rnoatime": (m.MOUNT_ATTR_NOATIME, False),
    "ratime": (m.MOUNT_ATTR_NOATIME, True),
    "rstrictatime": (m.MOUNT_ATTR_STRICTATIME, False),
    "rnostrictatime": (m.MOUNT_ATTR_STRICTATIME, True),
    "rnosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, False),
    "rsymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, True),
}
EXTENSIONS = ("tmpcopyup", "idmap", "ridmap", "src-nofollow", "dest-nofollow", "copy-symlink")

# A bind mount's own attributes, for mount_setattr(2). The other flags of mount(2) belong to the file system, which a
# bind mount shares: they have no meaning for it (mount(8), "bind mounts").
ATTRIBUTES = {
    m.MS_RDONLY: m.MOUNT_ATTR_RDONLY,
    m.MS_NOSUID: m.MOUNT_ATTR_NOSUID,
    m.MS_NODEV: m.MOUNT_ATTR_NODEV,
    m.MS_NOEXEC: m.MOUNT_ATTR_NOEXEC,
    m.MS_NODIRATIME: m.MOUNT_ATTR_NODIRATIME,
    m.MS_NOSYMFOLLOW: m.MOUNT_ATTR_NOSYMFOLLOW,
}
# The flags that are locked on a mount of another user namespace (MNT_LOCK_* of the kernel), as options and as in
# statvfs(3); access times are locked, too. nosymfollow may be cleared there.
LOCKED = {"ro": (m.MS_RDONLY, 1), "nosuid": (m.MS_NOSUID, 2), "nodev": (m.MS_NODEV, 4), "noexec": (m.MS_NOEXEC, 8)}
_ST_NOATIME, _ST_NODIRATIME, _ST_RELATIME = 1024, 2048, 4096
_ATIME_FLAGS = m.MS_NOATIME | m.MS_NODIRATIME | m.MS_RELATIME | m.MS_STRICTATIME
_ATIME = {
    m.MS_NOATIME: m.MOUNT_ATTR_NOATIME,
    m.MS_STRICTATIME: m.MOUNT_ATTR_STRICTATIME,
    m.MS_RELATIME: m.MOUNT_ATTR_RELATIME,
}


class Options:
    """A parsed list of options: `flags` and `cleared` of mount(2), `data`, `propagation` (mount(2) flags, in order),
    `recursive_set` and `recursive_cleared` attributes, `extensions`."""

    __slots__ = ("cleared", "data", "extensions", "flags", "propagation", "recursive_cleared", "recursive_set")

    def __init__(self) -> None:
        self.flags = 0
        self.cleared = 0
        self.propagation: "list[int]" = []
        self.recursive_set = 0
        self.recursive_cleared = 0
        self.data: "list[str]" = []
        self.extensions: "list[str]" = []

    def attributes(self) -> "tuple[int, int]":
        """(to set, to clear) for mount_setattr(2) on a bind mount."""
        set_, clear = 0, 0
        for flag, attribute in ATTRIBUTES.items():
            if self.flags & flag:
                set_ |= attribute
            elif self.cleared & flag:
                clear |= attribute
        for flag, attribute in _ATIME.items():
            if self.flags & flag:
                # The three are values of one field: clear it before setting one of them.
                set_ |= attribute
                clear |= m.MOUNT_ATTR__ATIME
        if set_ & m.MOUNT_ATTR_STRICTATIME:
            set_ &= ~m.MOUNT_ATTR_NOATIME  # as mount(2) treats the two together
        return set_, clear

    def of_a_bind(self) -> "tuple[int, int]":
        """(to set, to clear) for mount_setattr(2) on a bind mount, as runc and crun do with mount(2)'s MS_REMOUNT.

        Without any flag the mount keeps the flags of its source. If any flag is set or cleared, all others are cleared.
        Access times are changed only if one of their flags is set; otherwise they become relatime.
        """
        if not self.cleared and not self.flags & ~(m.MS_BIND | m.MS_REC | m.MS_REMOUNT):
            return 0, 0
        set_, clear = self.attributes()
        for flag, attribute in ATTRIBUTES.items():
            if not self.flags & flag and (flag != m.MS_NODIRATIME or self.flags & _ATIME_FLAGS):
                clear |= attribute
        if self.flags & _ATIME_FLAGS:
            clear |= m.MOUNT_ATTR__ATIME
        return set_, clear

    def beside_locked(self, there: int) -> "tuple[int, int, list[str]]":
        """`of_a_bind` in a user namespace, which locks the mount's flags; `there` is statvfs(3)'s f_flag of the source.

        Also returns the options that are impossible: explicitly cleared locked flags, and different access times.
        """
        set_, clear = self.of_a_bind()
        refused = [name for name, (flag, bit) in LOCKED.items() if self.cleared & flag and there & bit]
        if self.flags & _ATIME_FLAGS:
            now = m.MOUNT_ATTR_NODIRATIME if there & _ST_NODIRATIME else 0
            if not there & _ST_RELATIME:
                now |= m.MOUNT_ATTR_NOATIME if there & _ST_NOATIME else m.MOUNT_ATTR_STRICTATIME
            if set_ & (m.MOUNT_ATTR__ATIME | m.MOUNT_ATTR_NODIRATIME) != now:
                refused.append("the access times")
        return set_ & ~(m.MOUNT_ATTR__ATIME | m.MOUNT_ATTR_NODIRATIME), clear & m.MOUNT_ATTR_NOSYMFOLLOW, refused

    def kept_if_locked(self) -> "list[tuple[int, int, str]]":
        """What must be so of a source whose flags are locked, or these options are impossible: `beside_locked`.

        (bits of statvfs(3)'s f_flag, what they must be, the option's name).
        """
        found = [(bit, 0, name) for name, (flag, bit) in LOCKED.items() if self.cleared & flag]
        if self.flags & _ATIME_FLAGS:
            set_, _ = self.of_a_bind()
            times = set_ & m.MOUNT_ATTR__ATIME
            bits = _ST_NODIRATIME | _ST_RELATIME
            wanted = _ST_NODIRATIME if set_ & m.MOUNT_ATTR_NODIRATIME else 0
            if times == m.MOUNT_ATTR_RELATIME:
                wanted |= _ST_RELATIME
            else:
                bits |= _ST_NOATIME
                wanted |= _ST_NOATIME if times == m.MOUNT_ATTR_NOATIME else 0
            found.append((bits, wanted, "the access times"))
        return found


def parse(options: "list[str]") -> Options:
    """Parse a mount's options; a later one overrides an earlier one."""
    result = Options()
    for option in options:
        if option in FLAGS:
            flag, clear = FLAGS[option]
            if clear:
                result.flags &= ~flag
                result.cleared |= flag
            else:
                result.flags |= flag
                result.cleared &= ~flag
        elif option in PROPAGATION:
            result.propagation.append(PROPAGATION[option])
        elif option in RECURSIVE:
            attribute, clear = RECURSIVE[option]
            if clear:
                result.recursive_cleared |= attribute
                result.recursive_set &= ~attribute
            else:
                result.recursive_set |= attribute
                result.recursive_cleared &= ~attribute
        elif option in EXTENSIONS or option.startswith(("idmap=", "ridmap=")):
            result.extensions.append(option)
        else:
            result.data.append(option)
    return result


def settings(data: str) -> "dict[str, str]":
    """The options of a new file system one by one; a comma inside quotes (an SELinux context) separates nothing."""
    settings: "dict[str, str]" = {}
    key = ""
    for number, part in enumerate(data.split('"')):
        if number % 2:
            settings[key] = part
            continue
        for word in part.split(","):
            key, _, value = word.partition("=")
            if key:
                settings[key] = value
    return settings
