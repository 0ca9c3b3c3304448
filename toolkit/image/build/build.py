"""`ctk build`: the stages of a Containerfile, one after the other; each step that changes files gives a layer.

RUN is somebody else's: `toolkit/up/build_run.py` starts ctk for it. All that the build has made, or found, is leased
until its end, and its own folder is one of the store's `making/`, which `prune` takes if a build was killed.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from toolkit.archive.epoch import epoch_s, time_text
from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound, Usage, reason
from toolkit.events import Done, Emit, Event, Finished, Note, Planned, Started
from toolkit.image.build import files, instructions, layers, lines, stages, words
from toolkit.image.build.files import Files, Folder, Made
from toolkit.image.build.instructions import Arg, Command, Copy, Instruction, Pairs, Run, Words
from toolkit.image.build.layers import Layers, Work
from toolkit.image.build.stages import SCRATCH, Plan, Stage
from toolkit.image.build.state import PATH, Shared, State, dated
from toolkit.image.document import platform
from toolkit.image.layer.policy import Policy
from toolkit.image.name import next_steps, parse
from toolkit.image.store import limit, names
from toolkit.image.store.builds import Layer
from toolkit.image.store.place import MAKING
from toolkit.image.store.store import Image, Store, StoreDestination
from toolkit.image.transfer import pull, put
from toolkit.image.transfer.pull_options import NEVER, PullOptions, check_stored
from toolkit.kernel import reading
from toolkit.text import counted, quote

NAMES = ("Containerfile", "Dockerfile")
_LAST = ("image", "Write the image")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The options of `ctk build`. `file` "" is one of NAMES in the folder.

    `network` is instructions.HOST or NONE, for each RUN that does not say. `how` is for the images of FROM and
    COPY --from.
    """

    context: str
    names: tuple[str, ...] = ()
    file: str = ""
    target: str = ""
    args: tuple[str, ...] = ()
    use_cache: bool = True
    network: str = instructions.HOST
    how: PullOptions = PullOptions()  # noqa: RUF009 (it cannot be changed)


class RunStep(NamedTuple):
    """A RUN to be carried out. `lowers` are the folders of the layers `below`, the topmost first; `user` "" is root.

    `stage` is the name of its events.
    """

    work: Work
    below: Layers
    lowers: tuple[str, ...]
    doing: str
    stage: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    folder: str
    user: str
    network: str


Runner = Callable[[RunStep, Emit], Layer | None]
"""Carries out a RUN: the layer of what it has changed, None if that is nothing. Raises CtkError."""


class _Built(NamedTuple):
    """A stage that is finished."""

    layers: Layers
    state: State


def build(request: BuildRequest, run: Runner, emit: Emit) -> str:
    """Build the image; the digest of its manifest. Raises CtkError; then there is no new image."""
    began = time.monotonic()
    context = os.path.abspath(request.context)
    if not os.path.isdir(context):
        hint = f"ctk build -f {quote(request.context)}" if os.path.isfile(request.context) else ""
        raise NotFound(f"build {request.context!r}", because="there is no such folder", hint=hint)
    for name in request.names:
        names.whole(name)
    path, shown = _file(request, context)
    parsed = instructions.read(lines.read(_content(path), shown))
    given = _given(request.args)
    plan = stages.plan(parsed, given, platform.host(), shown, request.target)
    for text in parsed.warnings:
        emit(Note(text, warning=True))
    for name in sorted(set(given) - plan.declared):
        emit(Note(f"--build-arg {name}: no ARG of {shown} takes it", warning=True))
    emit(Planned((*(_step(stage, at) for stage in plan.stages for at in _working(stage)), _LAST)))
    store = Store()
    into = store.destination(f"ctk build {quote(request.context)}")
    try:
        builder = _Builder(request, context, path, plan, store, into, run, emit)
        digest = builder.image(given)
        limit.keep(store, emit)
    finally:
        into.close()
    called = ", ".join(request.names) or "an image without a name"
    steps = next_steps(parse(request.names[0])) if request.names else (f"ctk image tag {quote(digest)} NAME",)
    done = {"digest": digest, "names": list(request.names)}
    emit(Done(f"built {called}: {digest}", time.monotonic() - began, done, steps))
    return digest


def _file(request: BuildRequest, context: str) -> tuple[str, str]:
    """The path of the Containerfile, and what it is called in messages."""
    if request.file:
        return os.path.abspath(request.file), request.file
    for name in NAMES:
        if os.path.isfile(os.path.join(context, name)):
            return os.path.join(context, name), name
    because = f"there is neither {NAMES[0]} nor {NAMES[1]} in it"
    raise NotFound(f"build {request.context!r}", because=because, hint="-f names another file")


def _content(path: str) -> bytes:
    try:
        return reading.read(path, limit_bytes=lines.LIMIT_BYTES)
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None


def _given(args: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in args:
        name, equals, value = text.partition("=")
        if not name:
            raise Usage(f"read --build-arg {text!r}", because="it is not NAME=VALUE")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _ignore_file(path: str, context: str) -> str:
    """The file of patterns: one beside the Containerfile, of its name, goes before that of the folder; "" for none."""
    from toolkit.image.build.ignore import FILES

    own = [f"{path}{name}" for name in FILES]
    return next((one for one in (*own, *(os.path.join(context, name) for name in FILES)) if os.path.isfile(one)), "")


def _working(stage: Stage) -> list[int]:
    """Which of a stage's steps are shown: its base (-1), and those that change files."""
    return [-1, *(at for at, one in enumerate(stage.steps) if _is_work(one))]


def _is_work(one: Instruction) -> bool:
    return isinstance(one, (Copy, Run)) or (isinstance(one, Words) and one.line.name == "WORKDIR")


def _step(stage: Stage, at: int) -> tuple[str, str]:
    """A step's name in events, and its title."""
    line = stage.head.line if at < 0 else stage.steps[at].line
    text = " ".join(line.text.split())
    return f"{stage.number}.{at + 1}", text if len(text) < 72 else text[:70] + "…"


class _Builder:
    def __init__(
        self,
        request: BuildRequest,
        context: str,
        path: str,
        plan: Plan,
        store: Store,
        into: StoreDestination,
        run: Runner,
        emit: Emit,
    ) -> None:
        self._request = request
        self._context = context
        self._ignore_file = _ignore_file(path, context)
        self._plan = plan
        self._store = store
        self._into = into
        self._run = run
        self._emit = emit
        self._built: dict[int, _Built] = {}
        self._images: dict[str, tuple[Image, Layers]] = {}
        self._latest_s = epoch_s()
        self._work = Work("", "", "", True, None, Policy())

    def image(self, given: dict[str, str]) -> str:
        """All stages; then the image. Its digest."""
        shared = Shared(dict(self._plan.args), given, self._plan.escape)
        folder, lock = self._folder()
        try:
            use_cache = self._request.use_cache
            how = self._request.how
            policy = Policy(how.squash_ids, how.devices)
            self._work = Work(
                self._store.place.folder, self._into.lease_path, folder, use_cache, self._latest_s, policy
            )
            for stage in self._plan.stages:
                self._built[stage.number] = self._stage(stage, shared)
            return self._write(self._built[self._plan.stages[-1].number])
        finally:
            os.close(lock)
            self._store.layers.remove_set_aside(folder)

    def _folder(self) -> tuple[str, int]:
        """A folder of our own in the store's `making/`, whose lock says that somebody is at work."""
        self._store.place.prepare()
        path = self._store.place.path(MAKING, f"build.{os.urandom(8).hex()}")
        try:
            with self._store.place.in_use():  # so that no `prune` finds it before the lock holds
                os.mkdir(path, 0o700)
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._store.place.failed(error) from None
        return path, fd

    # ---- stages

    def _stage(self, stage: Stage, shared: Shared) -> _Built:
        name, began = _step(stage, -1)[0], time.monotonic()
        self._emit(Started(name))
        below, state, detail = self._base(stage, shared)
        self._emit(Finished(name, time.monotonic() - began, detail, skipped=True))
        for at, one in enumerate(stage.steps):
            if isinstance(one, (Arg, Pairs, Command)) or (isinstance(one, Words) and not _is_work(one)):
                state.change(one)
                state.note(one.line.text, layer=False)
                continue
            name, began = _step(stage, at)[0], time.monotonic()
            self._emit(Started(name))
            made = self._work_step(stage, one, below, state, name)
            state.note(self._words(one, state), layer=made.layer is not None)
            below += (made.layer,) if made.layer else ()
            detail = "cached" if made.cached else "" if made.layer else "nothing has changed"
            self._emit(Finished(name, time.monotonic() - began, detail, skipped=made.cached))
        return _Built(below, state)

    def _words(self, one: Instruction, state: State) -> str:
        if isinstance(one, Run) and not one.argv:
            return f"RUN {' '.join(state.shell(one.text))}"
        return one.line.text

    def _base(self, stage: Stage, shared: Shared) -> tuple[Layers, State, str]:
        if isinstance(stage.base, int):
            before = self._built[stage.base]
            state = State(before.state.document([]), platform.host(), shared)
            return before.layers, state, f"stage {stage.base}"
        if stage.base == SCRATCH:
            state = State(b"", platform.host(), shared)
            state.run["Env"] = [PATH]
            return (), state, "empty"
        image, found = self._image(stage.base, stage.head.line)
        state = State(image.config.raw, platform.host(), shared)
        if state.run.get("OnBuild"):
            because = f"{stage.base} has ONBUILD steps, which ctk does not carry out"
            raise stage.head.line.where.invalid(because, "write them into this file")
        return found, state, image.digest

    def _image(self, name: str, line: lines.Line) -> tuple[Image, Layers]:
        """An image of the store, which is pulled if need be, with its layers. Held until the build ends."""
        if name in self._images:
            return self._images[name]
        image = None
        how = self._request.how
        if not how.asks_first:
            try:
                image = self._held(name)
                check_stored(name, image, how, self._emit)
            except NotFound as error:
                image = None
                if how.when == NEVER:
                    doing, hint = f"{line.where}: {error.doing}", f"ctk pull {quote(name)}"
                    raise NotFound(doing, because=error.because, hint=hint) from None
        if image is None:
            with _at(line):
                pull.fetched(pull.for_use(name, "", how), _within(self._emit))
            image = self._held(name)
        found = tuple(
            Layer(one.in_oci(), diff_id)
            for one, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
        )
        self._images[name] = image, found
        return image, found

    def _held(self, name: str) -> Image:
        with self._store.place.in_use():
            image = self._store.image(name, platform.host())
            self._into.hold(image.digest)
        return image

    # ---- steps

    def _work_step(self, stage: Stage, one: Instruction, below: Layers, state: State, name: str) -> Made:
        if isinstance(one, Run):
            return self._run_step(one, below, state, name)
        if isinstance(one, Copy):
            return self._copy_step(stage, one, below, state)
        assert isinstance(one, Words)
        state.change(one)
        if state.folder == "/":
            return Made(None, True)
        step = Folder(self._work, below, _doing(one), state.folder, state.user)
        return rootless.as_root(files.folder, step, self._emit)

    def _copy_step(self, stage: Stage, one: Copy, below: Layers, state: State) -> Made:
        scope = state.scope(one.line)
        where = stages.source(one, stage, self._plan.stages, scope)
        if where is None:
            source = None
        elif isinstance(where, int):
            if where not in self._built:
                raise one.line.where.invalid(f"--from={one.source_image}: this stage was not built")
            source = self._built[where].layers
        else:
            source = self._image(where, one.line)[1]
        mode = words.expand(one.mode, scope)
        if mode and (len(mode) > 5 or not set(mode) <= set("01234567")):
            raise one.line.where.invalid(f"--chmod={mode} is not an octal mode")
        texts = tuple(
            (each.name, words.expand_only(each.content, scope) if each.expand else each.content)
            for each in one.heredocs
        )
        step = Files(
            self._work,
            below,
            _doing(one),
            self._context,
            self._ignore_file,
            source,
            tuple(words.expand(each, scope) for each in one.sources),
            texts,
            state.path(words.expand(one.target, scope)),
            words.expand(one.owner, scope),
            int(mode, 8) if mode else None,
            one.is_add,
        )
        return rootless.as_root(files.copy, step, self._emit)

    def _run_step(self, one: Run, below: Layers, state: State, name: str) -> Made:
        argv = list(one.argv) or state.shell(one.text)
        network = one.network or self._request.network
        env = state.environment()
        counted = {key: value for key, value in env.items() if key not in stages.PROXIES}
        key = layers.key(self._work, below, "RUN", argv, sorted(counted.items()), state.folder, state.user, network)
        known, layer = layers.find(self._work, key)
        if known:
            return Made(layer, True)
        if not below:
            raise one.line.where.invalid("there is nothing to run in an empty image", "COPY a program first")
        lowers = layers.lowers(self._work, below)
        if lowers is None:
            lowers = rootless.as_root(_laid_out, (self._work, below), self._emit)
        step = RunStep(
            self._work,
            below,
            tuple(lowers),
            _doing(one),
            name,
            tuple(argv),
            tuple(f"{key}={value}" for key, value in env.items()),
            state.folder,
            state.user,
            network,
        )
        layer = self._run(step, self._emit)
        layers.keep(self._work, key, layer)
        return Made(layer, False)

    # ---- the image

    def _write(self, built: _Built) -> str:
        began = time.monotonic()
        self._emit(Started(_LAST[0]))
        undated = built.state.document([one.diff_id for one in built.layers])
        config = layers.config(self._work, undated, lambda: dated(undated, time_text(self._latest_s)))
        digest = put.documents(self._into, config, [one.descriptor for one in built.layers], self._request.names)
        self._emit(Finished(_LAST[0], time.monotonic() - began, counted(len(built.layers), "layer")))
        return digest


def _laid_out(request: tuple[Work, Layers], emit: Emit) -> list[str]:
    return layers.laid_out(*request, emit)


def _doing(one: Instruction) -> str:
    """For messages: where the step is written, and its beginning."""
    text = " ".join(one.line.text.split())
    return f"{one.line.where}: {text if len(text) < 200 else text[:198] + '…'}"


@contextlib.contextmanager
def _at(line: lines.Line) -> Iterator[None]:
    """Let an error say which line of the Containerfile wants the image."""
    try:
        yield
    except CtkError as error:
        error.doing = f"{line.where}: {error.doing}"
        raise


def _within(emit: Emit) -> Callable[[Event], None]:
    """`emit` for a pull inside a step of ours: its stages are not on our screen."""

    def passing(event: Event) -> None:
        if isinstance(event, Note):
            emit(event)

    return passing
