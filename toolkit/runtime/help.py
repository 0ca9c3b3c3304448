"""`--help` and `--version` of the runtime verbs, in the shape of runc's (NAME, USAGE, OPTIONS)."""

import toolkit
from toolkit.oci.state import SPEC_VERSION
from toolkit.runtime.options import GLOBAL, OURS, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.argv import WrongOption
    from toolkit.runtime.options import Option

_EXAMPLES = {
    "checkpoint": "{program} checkpoint --image-path ./saved my-cont",
    "features": "{program} features",
    "pause": "{program} pause my-cont",
    "restore": "{program} restore --detach --image-path ./saved --bundle ./my-bundle my-cont",
    "resume": "{program} resume my-cont",
    "spec": "{program} spec --bundle ./my-bundle",
    "start": "{program} start my-cont",
    "state": "{program} state my-cont",
    "create": "{program} create --bundle ./my-bundle my-cont",
    "delete": "{program} delete my-cont",
    "events": "{program} events --stats my-cont",
    "exec": "{program} exec --tty my-cont ps -ef",
    "kill": "{program} kill my-cont KILL",
    "list": "{program} --root /run/ctk list --format json",
    "ps": "{program} ps my-cont -o pid,args",
    "run": "{program} run --bundle ./my-bundle my-cont",
    "update": "{program} update --memory 512m --pids-limit 100 my-cont\n   "
    'echo \'{{"cpu": {{"quota": 50000, "period": 100000}}}}\' | {program} update --resources - my-cont',
}


def render(program: str, verb: str, columns: int = 0) -> str:
    """The help text of a verb, or of the whole command for ''; `columns` wraps the text of each option."""
    if not verb:
        return _whole(program)
    summary, arguments, _fewest, _most, _mixed, table = VERBS[verb]
    words = [program, verb]
    if table:
        words.append("[command options]")
    if arguments:
        words.append(arguments)
    usage = _folded("   ", " ".join(words), 6, columns)
    text = f"NAME:\n   {program} {verb} - {summary}\n\nUSAGE:\n{usage}"
    if verb in _EXAMPLES:
        text += f"\nEXAMPLE:\n   {_EXAMPLES[verb].format(program=program)}\n"
    ours = [_row(option) for option in table if verb == "run" and option[0] in OURS]
    rows = [_row(option) for option in table if _row(option) not in ours]
    text += "\nOPTIONS:\n" + _table([*rows, ("--help, -h", "show help")], columns)
    return text + (f"\nOPTIONS THAT ONLY CTK HAS:\n{_table(ours, columns)}" if ours else "")


_DOCKERS_FLAGS = ("it", "ti", "itd", "dit", "tid", "dti")


# Docker's options of `run` that describe a container, which config.json does here.
_IN_THE_SPEC = frozenset(
    "name v volume e env p publish m memory cpus network net h hostname u user w workdir mount privileged "
    "cap-add cap-drop device tmpfs read-only pids-limit security-opt entrypoint".split()
)


def is_another_tools(error: "WrongOption") -> bool:
    """Whether the wrong option is one of Docker's."""
    return error.verb in ("run", "exec", "create") and str(error).rpartition(": -")[2] in _DOCKERS_FLAGS


def advice(error: "WrongOption", program: str) -> str:
    """What the user may have meant by a wrong command line, and how to get help."""
    verb = error.verb
    see = f"see {program} {verb} --help" if verb else f"see {program} --help"
    if verb == "ps" and (error.arguments or str(error).endswith((": -a", ": -aq", ": -all", ": -q"))):
        return f"{program} list shows the containers, {program} ps NAME the processes of one; {see}"
    if error.arguments:
        usage = f"{program} {verb} {VERBS[verb][1] or '(no arguments)'}"
        if verb in ("run", "create") and "exactly" in str(error):
            return (
                f"{usage}; the command is in config.json: {program} spec --update -- COMMAND, or "
                f"{program} up SUITE ID -- COMMAND; {see}"
            )
        return f"{usage}; {see}"
    _, found, flag = str(error).partition("not defined: -")
    if not found:
        return see
    if verb and flag.partition("=")[0] in [option[0] for option in GLOBAL]:
        return f"it goes before the verb: {program} --{flag} … {verb} …; {see}"
    table = VERBS[verb][5] if verb else GLOBAL
    if verb in ("run", "create") and flag in _DOCKERS_FLAGS:
        return f"a terminal is the default: {program} up IMAGE NAME -- COMMAND; {see}"
    if verb in ("run", "create") and flag.partition("=")[0] in _IN_THE_SPEC:
        return (
            f"config.json describes the container: {program} spec --update …, or "
            f"{program} up SUITE NAME … does everything; {see}"
        )
    if verb == "update" and flag.partition("=")[0] == "cpus":
        return f"half a CPU is --cpu-period 100000 --cpu-quota 50000; {see}"
    if verb == "list" and flag in ("a", "all", "aq", "qa"):
        return f"it always lists all of them, stopped ones too; {see}"
    if verb == "exec" and flag in (*_DOCKERS_FLAGS, "i", "interactive"):
        return f"standard input is always passed on; -t alone gives a terminal; {see}"
    letters = [option for letter in flag for option in table if option[1] == letter]
    if 1 < len(flag) < 4 and len(letters) == len(flag):
        return f"one at a time: {' '.join('-' + letter for letter in flag)}; {see}"
    from difflib import get_close_matches

    near = get_close_matches(flag, [option[0] for option in table], 1)
    return f"did you mean --{near[0]}? {see}" if near else see


def _whole(program: str) -> str:
    verbs = [(verb, VERBS[verb][0]) for verb in VERBS] + [("help, h", "show the help of a command")]
    options = [_row(option) for option in GLOBAL]
    options += [("--help, -h", "show help"), ("--version, -v", "print the version")]
    return (
        f"NAME:\n   {program} - Open Container Initiative runtime\n\n"
        f"USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {toolkit.__version__}\nspec: {SPEC_VERSION}\n\n"
        f"COMMANDS:\n{_table(verbs)}\nGLOBAL OPTIONS:\n{_table(options)}"
    )


def _row(option: "Option") -> "tuple[str, str]":
    name, short, _kind, default, metavar, text = option
    value = f" {metavar}" if metavar else ""
    left = f"--{name}{value}" + (f", -{short}{value}" if short else "")
    return left, text + (f' (default: "{default}")' if isinstance(default, str) and default else "")


def _table(rows: "list[tuple[str, str]]", columns: int = 0) -> str:
    width = max(len(left) for left, _ in rows) + 2
    if not columns:
        return "".join(f"   {left:<{width}}{text}\n" for left, text in rows)
    width = min(width, 26)
    found = ""
    for left, text in rows:
        line = f"   {left:<{width}}"
        if len(left) + 2 > width:
            found += line + "\n"
            line = " " * (width + 3)
        found += _folded(line, text, width + 3, columns)
    return found


def _folded(line: str, text: str, indent: int, columns: int) -> str:
    """`line` followed by the words of `text`, further lines indented; `columns` 0 means one line."""
    found = ""
    for word in text.split(" "):
        if columns and len(line) + len(word) > columns:
            found += line.rstrip() + "\n"
            line = " " * indent
        line += word + " "
    return found + line.rstrip() + "\n"


def version(program: str) -> str:
    """The output of `--version`; engines read the first line and those that begin with `commit:` and `spec:`."""
    import sys

    python = ".".join(str(n) for n in sys.version_info[:3])
    number = toolkit.__version__
    text = f"{program} version {number}\ncommit: v{number}\nspec: {SPEC_VERSION}\npython: {python}\n"
    return text + _crun_features() + "\n" if program == "crun" else text


def _crun_features() -> str:
    """Those of crun's build features that ctk has: test suites for runtimes skip what is not listed."""
    from toolkit.errors import HostLacks
    from toolkit.runtime import criu

    words = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF"
    try:
        criu.find("criu")
    except HostLacks:
        return words
    return words + " +CRIU"
