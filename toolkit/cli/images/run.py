"""`ctk run --image IMAGE ID`: the bundle is made before the runtime runs it, in the same process.

An image that the store has, laid out, is run without typer, rich and requests: starting them would take longer than the
container.
"""

import contextlib
import os
import sys
from collections.abc import Callable

from toolkit.bundle.build import SpecRequest
from toolkit.errors import InUse, NotFound, Usage
from toolkit.events import Event, Note
from toolkit.image.transfer.pull_options import NEVER, PullOptions
from toolkit.runtime import record as records
from toolkit.runtime.options import OF_IMAGE, Options
from toolkit.up import from_image
from toolkit.up.bundle import UpRequest
from toolkit.up.from_image import ImageRequest


def prepare(options: Options) -> Callable[[], None]:
    """Make the bundle of `options.image`, unless `ctk up` has, and let the options name it.

    Returns what is to be called at the end: with --rm the bundle goes, too. Raises CtkError.
    """
    if options.image:
        _make(options)
    elif given := sorted(options.given & OF_IMAGE):
        raise Usage("read the command line of `run`", because=f"--{given[0]} is for --image, which is not there")

    def end() -> None:
        # A detached container's end is seen by its holder, the copy of this process in which --detach is done.
        if options.rm and not options.detach:
            from_image.remove(os.path.abspath(options.bundle or "."))

    return end


def _make(options: Options) -> None:
    doing = "read the command line of `run`"
    for name in ("bundle", "config", "lower"):
        if name in options.given:
            raise Usage(doing, because=f"--image makes the bundle, and --{name} names another")
    if not options.replace and _is_there(options):
        raise InUse(f"run {options.id!r}", because="there is a container of that name", hint="--replace removes it")
    ordinary = os.geteuid() != 0
    spec = SpecRequest(
        rootless=ordinary,
        userns=ordinary,
        namespace=("net",) if ordinary else (),
        writable=True,
        hostname=options.id,
    )
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not options.detach
    request = UpRequest(id=options.id, spec=spec, terminal=terminal or bool(options.console_socket))
    made = _prepared(request, ImageRequest(options.image, options.platform, _how(options)))
    options.bundle = made.bundle
    options.lower = list(made.lowers)
    options.given |= {"bundle", "lower"}
    if not options.ephemeral and not options.overlay:
        options.overlay = os.path.join(made.bundle, from_image.WRITABLE)
        options.given.add("overlay")


def _is_there(options: Options) -> bool:
    try:
        records.load(options.root, options.id)
    except NotFound:
        return False
    return True


def _how(options: Options) -> PullOptions:
    found = PullOptions(
        options.pull,
        tuple(options.plain_http),
        options.lock_file,
        options.update_lock,
        options.policy,
        options.squash_ids,
        options.devices,
    )
    found.check()
    return found


def _prepared(request: UpRequest, wanted: ImageRequest) -> from_image.Prepared:
    """The bundle; a registry, a policy or layers to be laid out need the installed libraries, and show progress."""
    if not wanted.how.asks_first and not wanted.how.policy:
        here = wanted._replace(how=wanted.how._replace(when=NEVER), lay_out=False)
        with contextlib.suppress(NotFound):
            return from_image.prepare(request, here, _warnings)
    if sys.flags.no_site:
        import site

        site.main()
    from toolkit.ui import renderer

    with renderer(json=False, stream=sys.stderr) as emit:
        return from_image.prepare(request, wanted, emit)


def _warnings(event: Event) -> None:
    if isinstance(event, Note) and event.warning:
        from toolkit.cli import output

        output.err(f"ctk: {event.text}\n")
