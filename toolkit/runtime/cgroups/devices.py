"""The devices that a container may use: the spec's rules, evaluated for v1's files and for v2's program.

The rules are evaluated as the v1 device controller would, in order: a rule for all devices ('a') starts again and sets
the default, a rule against the default is an exception from it, a rule with the default removes an exception. A rule
that would take a part out of a wider exception is an error: v1 ignores it silently.

Source: config-linux.md, "Allowed Device list"; Documentation/admin-guide/cgroup-v1/devices.rst.
"""

from toolkit.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import DeviceRule

    Device = tuple[str, int, int]  # 'b' or 'c', major, minor; -1 is any

MKNOD, READ, WRITE = 1, 2, 4  # BPF_DEVCG_ACC_*, linux/bpf.h
ANY = -1
_ACCESS = {"m": MKNOD, "r": READ, "w": WRITE}
_TYPES = {"a": "a", "b": "b", "c": "c", "u": "c"}

# What every container may use in addition, as with runc: mknod of any node, the spec's default devices, terminals, and
# /dev/net/tun, which engines cannot ask for by themselves. Appended to the rules of the spec, so it always applies.
DEFAULTS = (
    ("c", ANY, ANY, MKNOD),
    ("b", ANY, ANY, MKNOD),
    ("c", 1, 3, 7),
    ("c", 1, 8, 7),
    ("c", 1, 7, 7),
    ("c", 5, 0, 7),
    ("c", 1, 5, 7),
    ("c", 1, 9, 7),
    ("c", 136, ANY, 7),
    ("c", 5, 2, 7),
    ("c", 10, 200, 7),
)


def settle(rules: "Sequence[DeviceRule]") -> "tuple[bool, dict[Device, int]]":
    """(whether devices are allowed by default, the exceptions and their access). Raises Invalid."""
    default = False
    exceptions: dict[Device, int] = {}
    for index, rule in enumerate(rules):
        at = f"linux.resources.devices[{index}]"
        allow = bool(rule.get("allow"))
        kind = _TYPES.get(rule.get("type") or "a")
        if kind is None:
            raise Invalid(at + ".type", f"{rule['type']!r} is not one of a, b, c")
        if not rule.get("access"):
            raise Invalid(at + ".access", f"device access at {index} field cannot be empty")
        if kind == "a":
            default, exceptions = allow, {}
            continue
        access = 0
        for letter in rule["access"]:
            access |= _ACCESS.get(letter, 0)  # oci.check warns of others; runc ignores them
        if not access:
            continue
        number = _number(rule.get("major"), f"{at}.major"), _number(rule.get("minor"), f"{at}.minor")
        _apply(default, exceptions, allow, (kind, *number), access, at)
    for kind, major, minor, access in DEFAULTS:
        _apply(default, exceptions, True, (kind, major, minor), access, "the default device rules")
    return default, exceptions


def _number(value: "int | None", at: str) -> int:
    if value is None or value == ANY:
        return ANY
    if not 0 <= value < 1 << 32:
        raise Invalid(at, f"{value} is not a device number")
    return int(value)


def _apply(default: bool, exceptions: "dict[Device, int]", allow: bool, device: "Device", access: int, at: str) -> None:
    if allow != default:
        exceptions[device] = exceptions.get(device, 0) | access
        return
    kind, major, minor = device
    for wider in ((kind, ANY, minor), (kind, major, ANY), (kind, ANY, ANY)):
        if wider != device and exceptions.get(wider, 0) & access:
            if at.startswith("the"):  # a wider rule of the user's denies it: the user's counts, as in runc
                continue
            raise Invalid(
                at,
                f"{'allows' if allow else 'denies'} a part of {describe(wider, exceptions[wider])!r}, "
                "which an earlier rule has as a whole (cannot punch hole in existing wildcard rule)",
                hint="split the earlier rule, or remove this one",
            )
    left = exceptions.get(device, 0) & ~access
    if left:
        exceptions[device] = left
    else:
        exceptions.pop(device, None)


def letters(access: int) -> str:
    """The access mask as the kernel's letters."""
    return ("r" if access & READ else "") + ("w" if access & WRITE else "") + ("m" if access & MKNOD else "")


def describe(device: "Device", access: int) -> str:
    """A rule in the notation of devices.allow: 'c 1:3 rwm'."""
    kind, major, minor = device
    return f"{kind} {'*' if major == ANY else major}:{'*' if minor == ANY else minor} {letters(access)}"


def writes_v1(rules: "Sequence[DeviceRule]") -> "list[tuple[str, list[str]]]":
    """(file, values) in order, for a cgroup in an unknown state. Raises Invalid."""
    default, exceptions = settle(rules)
    first, then = ("devices.allow", "devices.deny") if default else ("devices.deny", "devices.allow")
    plan = [(first, ["a"])]
    if exceptions:
        plan.append((then, [describe(device, access) for device, access in exceptions.items()]))
    return plan


def parse_list(text: str) -> "tuple[bool, dict[Device, int]]":
    """Parse a devices.list: (default, exceptions). If the default is to allow, it does not show the exceptions."""
    exceptions: dict[Device, int] = {}
    for line in text.splitlines():
        kind, number, access = line.split(" ", 2)
        if kind == "a":
            return True, {}
        major, _, minor = number.partition(":")
        device = (kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor))
        exceptions[device] = sum(_ACCESS[letter] for letter in access)
    return False, exceptions


def transition_v1(current: str, rules: "Sequence[DeviceRule]") -> "list[tuple[str, list[str]]]":
    """(file, values) to change the devices.list `current` to the rules; what stays allowed is never denied meanwhile.

    Deny-all first would make a running program's open(2) fail for a moment. Raises Invalid.
    """
    default, exceptions = settle(rules)
    was_default, was = parse_list(current)
    if default or was_default:
        return writes_v1(rules)
    allow = [describe(d, a & ~was.get(d, 0)) for d, a in exceptions.items() if a & ~was.get(d, 0)]
    deny = [describe(d, a & ~exceptions.get(d, 0)) for d, a in was.items() if a & ~exceptions.get(d, 0)]
    # Denials first: the other way round, a wildcard that is removed could not be told from what it covered.
    plan = []
    if deny:
        plan.append(("devices.deny", deny))
    if allow:
        plan.append(("devices.allow", allow))
    return plan
