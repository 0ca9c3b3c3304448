"""`ps`: print the processes of a container with the host's ps, or their ids."""

import os

from toolkit.errors import CtkError, HostLacks
from toolkit.kernel import reading
from toolkit.oci.json_text import dumps
from toolkit.runtime import lifecycle, log
from toolkit.runtime import record as records
from toolkit.text import one_line, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options

# Not the caller's PATH, because this runs as root; and never a ps from the container.
_PROGRAMS = ("/usr/bin/ps", "/bin/ps", "/usr/local/bin/ps")


def run(options: "Options") -> int:
    """Print the processes; none for a stopped container. Raises NotFound, CtkError."""
    container = records.load(options.root, options.id)
    if options.format not in ("table", "json"):
        raise CtkError("invalid format option", hint="use 'table' or 'json'")
    pids: list[int] = []
    if container.cgroups and lifecycle.of_this_boot(container):
        from toolkit.runtime import cgroups

        pids = cgroups.from_facts(container.cgroups).pids()
    if not pids and lifecycle.alive(container):
        pids = [container.pid]
    if options.format == "json":
        log.out((dumps(pids) if pids else "null") + "\n")
        return 0
    program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), "")
    if program:
        log.out(printable(_select(_output(program, options.args or ["-ef"]), pids)))
    elif options.args:
        raise HostLacks("run ps", because="the host has none", hint="without ps options, /proc is read instead")
    else:
        log.out(_from_proc(pids))
    return 0


def _output(program: str, arguments: "list[str]") -> str:
    """The output of the host's ps. Raises CtkError with its error output if it fails."""
    output = os.memfd_create("ps")
    try:
        pid = os.posix_spawn(
            program,
            ["ps", *arguments],
            {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "COLUMNS": os.environ.get("COLUMNS", "512")},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsigdef=(13, 25),
        )
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.lseek(output, 0, os.SEEK_SET)
        parts = []
        while part := os.read(output, 1 << 16):
            parts.append(part)
    finally:
        os.close(output)
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    if code:
        raise CtkError(f"ps {' '.join(arguments)}: exit status {code}", because=text.strip())
    return text


def _select(text: str, pids: "list[int]") -> str:
    """The heading of ps's table and the rows of these processes. Raises CtkError without a PID column."""
    heading, _, rows = text.partition("\n")
    try:
        column = heading.split().index("PID")
    except ValueError:
        raise CtkError("couldn't find PID field in ps output", hint="add it: -o pid,args") from None
    wanted = {str(pid) for pid in pids}
    kept = [heading]
    for row in rows.split("\n"):
        words = row.split()
        if len(words) > column and words[column] in wanted:
            kept.append(row)
    return "\n".join(kept) + "\n"


def _from_proc(pids: "list[int]") -> str:
    """A small table made from /proc, for a host without ps."""
    rows = [f"{'UID':<8} {'PID':>7} {'PPID':>7} S CMD"]
    for pid in pids:
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            stat = reading.read(f"/proc/{pid}/stat")
            command = reading.read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
        except OSError:
            continue
        end = stat.rindex(b")")
        state, parent = stat[end + 2 :].split()[:2]
        name = command or b"[" + stat[stat.index(b"(") + 1 : end] + b"]"
        rows.append(f"{uid:<8} {pid:>7} {int(parent):>7} {state.decode()} {one_line(os.fsdecode(name))}")
    return "\n".join(rows) + "\n"
