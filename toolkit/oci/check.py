"""Checks over a spec: types first (schema.py), then the rules of the runtime spec that a type cannot say.

A rule is a small pure function that gets the document and a `report`; it opens no file and makes no system call.
Rules run only on a document whose types are right, so they need not check types. A finding names the JSON path.
An error is what the runtime spec says must fail, or what the kernel is known to refuse; a warning is what the spec
says should be reported without failing.

Source: the OCI runtime spec 1.2, config.md and config-linux.md.
"""

from toolkit.errors import Invalid
from toolkit.oci import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Report = Callable[..., None]


class Finding:
    """What is wrong: `path` as "process.args[0]", `message`, `hint` (what to write instead); `warning`: not fatal.

    `code` names the kind of mistake; toolkit/explain/codes.py describes each.
    """

    __slots__ = ("code", "hint", "message", "path", "warning")

    def __init__(self, path: str, message: str, hint: str = "", warning: bool = False, *, code: str) -> None:
        self.code = code
        self.path = path
        self.message = message
        self.hint = hint
        self.warning = warning

    def __repr__(self) -> str:
        return f"{'warning' if self.warning else 'error'}: {self.path}: {self.message}"

    def as_error(self, document: str = "config.json") -> Invalid:
        """The finding as an exception."""
        return Invalid(self.path, self.message, hint=self.hint, document=document)


def findings(spec: "Any", *, exec: bool = False) -> "list[Finding]":
    """All errors and warnings of a spec; with `exec`, `spec` is a process object (exec --process)."""
    found: list[Finding] = []

    def report(path: str, message: str, hint: str = "", warning: bool = False, *, code: str) -> None:
        found.append(Finding(path, message, hint, warning, code=code))

    shape = schema.PROCESS if exec else schema.SPEC
    if type(spec) is not dict:
        report("", f"must be an object, not {_kind(spec)}", code="E101")
        return found
    _types(spec, shape, "", report)
    if found:
        return found
    from toolkit.oci import check_process

    if exec:
        check_process.process(spec, "", report)
        return found
    for rule in check_process.RULES:
        rule(spec, report)
    if spec.get("linux"):
        from toolkit.oci import check_linux

        for rule in check_linux.RULES:
            rule(spec, report)
    return found


def errors(spec: "Any", *, exec: bool = False) -> "list[Finding]":
    """The errors of a spec, without the warnings, in the order of the document."""
    return [finding for finding in findings(spec, exec=exec) if not finding.warning]


def resource_errors(resources: "Any") -> "list[Finding]":
    """The errors of a resources object by itself, as `update --resources` takes it."""
    found: list[Finding] = []

    def report(path: str, message: str, hint: str = "", warning: bool = False, *, code: str) -> None:
        found.append(Finding(path, message, hint, warning, code=code))

    if type(resources) is not dict:
        report("", f"must be an object, not {_kind(resources)}", code="E101")
        return found
    _types(resources, schema.RESOURCES, "", report)
    if not found:
        from toolkit.oci.check_resources import resources as rules

        rules(resources, "", report)
    return found


def type_errors(value: "Any", want: "Any", path: str) -> "list[Finding]":
    """The type errors of one value; `want` is the part of toolkit/oci/schema.py that describes it."""
    found: list[Finding] = []

    def report(path: str, message: str, hint: str = "", warning: bool = False, *, code: str) -> None:
        found.append(Finding(path, message, hint, warning, code=code))

    _types(value, want, path, report)
    return found


def hooks_errors(hooks: "Any") -> "list[Finding]":
    """The type errors of a hooks object by itself."""
    found: list[Finding] = []

    def report(path: str, message: str, hint: str = "", warning: bool = False, *, code: str) -> None:
        found.append(Finding(path, message, hint, warning, code=code))

    _types(hooks, schema.SPEC["hooks"], "hooks", report)
    return found


def require(spec: "Any", *, exec: bool = False, document: str = "config.json") -> "list[Finding]":
    """The warnings of a valid spec. Raises Invalid for the first error, and says how many more there are."""
    found = findings(spec, exec=exec)
    wrong = [finding for finding in found if not finding.warning]
    if wrong:
        error = wrong[0].as_error(document)
        if len(wrong) > 1:
            error.because += f" (and {len(wrong) - 1} more: {', '.join(f.path for f in wrong[1:4])})"
        raise error
    return found


def unknown_fields(spec: "Any", *, exec: bool = False) -> "list[str]":
    """JSON paths of members that the runtime spec does not define; a runtime ignores them, but they may be typos."""
    found: list[str] = []
    _unknown(spec, schema.PROCESS if exec else schema.SPEC, "", found)
    return found


def unknown_in(value: "Any", want: "Any", path: str) -> "list[str]":
    """The same for the value at `path`; `want` as in `type_errors`."""
    found: list[str] = []
    _unknown(value, want, path, found)
    return found


def _unknown(value: "Any", want: "Any", path: str, found: "list[str]") -> None:
    if type(want) is dict and type(value) is dict:
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            if key in want:
                _unknown(item, want[key], inner, found)
            elif key not in schema.OTHER_PLATFORMS:
                found.append(inner)
    elif type(want) is list and type(value) is list:
        for index, item in enumerate(value):
            _unknown(item, want[0], f"{path}[{index}]", found)
    elif type(want) is tuple and type(value) is dict:
        for key, item in value.items():
            _unknown(item, want[0], f"{path}[{key!r}]", found)


_RANGES = {
    "u8": (0, 0xFF),
    "u16": (0, 0xFFFF),
    "u32": (0, 0xFFFFFFFF),
    "u64": (0, 0xFFFFFFFFFFFFFFFF),
    "i32": (-0x80000000, 0x7FFFFFFF),
    "i64": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
}


def _types(value: "Any", want: "Any", path: str, report: "Report") -> None:
    """Report each part of `value` whose type is not the schema's; null is always allowed (it means absent)."""
    if want == "str":
        if type(value) is str:
            if "\0" in value:
                report(path, "contains a NUL character", code="E103")
        elif value is not None:
            report(path, f"must be a string, not {_kind(value)}", code="E101")
    elif type(want) is dict:
        if type(value) is dict:
            for key, item in value.items():
                if key in want and item is not None:
                    _types(item, want[key], f"{path}.{key}" if path else key, report)
        elif value is not None:
            report(path, f"must be an object, not {_kind(value)}", code="E101")
    elif type(want) is list:
        if type(value) is list:
            inner = want[0]
            for index, item in enumerate(value):
                if item is None:
                    report(f"{path}[{index}]", "must not be null", code="E101")
                elif inner != "str" or type(item) is not str or "\0" in item:
                    _types(item, inner, f"{path}[{index}]", report)
        elif value is not None:
            report(path, f"must be an array, not {_kind(value)}", code="E101")
    elif type(want) is tuple:
        if type(value) is dict:
            for key, item in value.items():
                if "\0" in key:
                    report(path, f"has a NUL character in the key {key!r}", code="E103")
                _types(item, want[0], f"{path}[{key!r}]", report)
        elif value is not None:
            report(path, f"must be an object, not {_kind(value)}", code="E101")
    elif want == "bool":
        if type(value) is not bool and value is not None:
            report(path, f"must be true or false, not {_kind(value)}", code="E101")
    elif value is not None:
        low, high = _RANGES[want]
        if type(value) is not int:
            report(path, f"must be an integer, not {_kind(value)}", code="E101")
        elif not low <= value <= high:
            report(path, f"{_short(value)} is out of range ({low} to {high})", code="E102")


def _kind(value: "Any") -> str:
    if value is None:
        return "null"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is dict:
        return "an object"
    if type(value) is list:
        return "an array"
    if type(value) is str:
        return f"the string {value[:40]!r}"
    return f"the number {_short(value)}"


def _short(number: "int | float") -> str:
    # Python refuses to print an integer of more than 4300 digits.
    if type(number) is int and number.bit_length() > 256:
        return "(too long to print)"
    return str(number)
