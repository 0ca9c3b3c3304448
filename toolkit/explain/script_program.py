"""The end of a launch's script: the shell that drops its privileges, waits for the new root and becomes the program.

config.json's variables must not affect programs of the host: PATH decides which `sh` is run, LD_PRELOAD what runs in
it. So the waiting shell starts with an empty environment and exports the variables itself, with builtins, once it is in
the new root. Names that a shell can't set (`a.b=1`) are passed by env(1), except bash's functions, which a `sh` that is
bash would run.
"""

import re
from collections.abc import Sequence

from toolkit.explain.identity import environment
from toolkit.explain.launch import Launch
from toolkit.explain.script_hooks import in_container
from toolkit.text import quote

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# A shell reserves these: setting one is an error, or does something else.
_SHELLS_OWN = frozenset("BASHOPTS BASH_VERSINFO EUID GROUPS LINENO OPTIND PPID RANDOM SECONDS SHELLOPTS UID _".split())


def exported(variables: Sequence[str]) -> list[str]:
    """The variables that a shell can export, as NAME=value."""
    return [each for each in variables if _NAME.fullmatch(_name(each)) and _name(each) not in _SHELLS_OWN]


def handed_over(variables: Sequence[str]) -> list[str]:
    """Those that env(1) has to pass: they mean nothing to the host's programs that run in between."""
    return [each for each in variables if not _NAME.fullmatch(_name(each)) and not _name(each).startswith("BASH_FUNC_")]


def left_out(variables: Sequence[str]) -> list[str]:
    """The names of the variables that the program doesn't get."""
    kept = {*exported(variables), *handed_over(variables)}
    return [_name(each) for each in variables if each not in kept]


def _name(entry: str) -> str:
    return entry.partition("=")[0]


def variables(launch: Launch) -> list[str]:
    """The program's environment."""
    (act,) = (act for act in launch.acts if act.side == "program" and act.tool == "env")
    return environment({"env": list(act.flags)}, "")


def lines(launch: Launch) -> list[str]:
    """The last shell lines of the inner part."""
    process = launch.spec["process"]
    program = [act for act in launch.acts if act.side == "program"]

    def flags(tool: str) -> list[str]:
        return [flag for act in program if act.tool == tool for flag in act.flags]

    given = variables(launch)
    chain = []
    if limits := flags("prlimit"):
        chain.append(["prlimit", *limits])
    if kinds := flags("setarch"):
        chain.append(["setarch", *kinds])
    filtered = ['${filter:+"$filter"}'] if (launch.spec.get("linux") or {}).get("seccomp") else []
    chain.append(["setpriv", *flags("setpriv"), *filtered])
    chain.append(["env", "-i", *map(quote, handed_over(given))])
    umask = next(act.shell[0] for act in program if act.tool == "umask")
    export = [f"export {_name(each)}={quote(each.partition('=')[2])}" for each in exported(given)]
    wait = ['echo "$0" >&8', "exec 8>&-", "read -r go <&9", "exec 9<&-"]
    last = [*wait, f"cd {quote(process.get('cwd') or '/')}", "unset PWD OLDPWD", umask]
    last += in_container(launch, export, exported)
    last += ["exec 7<&-", *export, 'exec "$@"']
    return [
        "# the program: privileges are dropped first, then the helper outside enters the new root for us",
        "read -r pid rest < /proc/self/stat",
        'exec 7<> /dev/null 8> "$work/ready" 9<> "$work/go"',
        "exec " + " \\\n  ".join(" ".join(words) for words in chain) + " \\",
        f'  /bin/sh -c {quote(chr(10).join(last))} "$pid" {" ".join(map(quote, process["args"]))}',
    ]
