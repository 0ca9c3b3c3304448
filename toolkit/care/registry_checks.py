"""Findings about registries: which logins there are, whether the helpers that keep them do exist, who answers.

Nothing secret is read out of the files or asked of a helper, and no login is sent anywhere.
"""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby

from toolkit.care.finding import BAD, NOTE, OK, WARN, Finding
from toolkit.errors import CtkError
from toolkit.image.registry import login
from toolkit.kernel.host import HostFacts
from toolkit.text import quote

_LOGINS, _REGISTRY = "logins", "registry"
_NEEDED_BY = "images that are not public"


def logins(_: HostFacts) -> Iterator[Finding]:
    """The registries that there are logins for, file by file, and helpers that are missing."""
    try:
        known = login.kept()
    except CtkError as error:
        yield Finding(_LOGINS, WARN, str(error), "ctk pull", "" if not error.hint else error.hint)
        return
    if not known:
        yield Finding(_LOGINS, NOTE, "none: registries are asked without a name")
    for path, ours in groupby(known, lambda one: one.path):
        kept = list(ours)
        there = [one for one in kept if not one.helper or shutil.which(one.helper)]
        if there:
            yield Finding(_LOGINS, OK, f"{path}: {', '.join(dict.fromkeys(map(_shown, there)))}")
        for one in kept:
            if one not in there:
                which = f"the login for {one.registry}" if one.registry else "all its logins"
                fix = f"ctk login {quote(one.registry)}" if one.registry else ""
                what = f"{path} leaves {which} to {one.helper}, which is not installed"
                yield Finding(_LOGINS, WARN, what, _NEEDED_BY, fix)
        if any(not one.helper for one in kept) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            yield Finding(_LOGINS, WARN, f"others may read {path}, which has passwords", "", f"chmod 600 {quote(path)}")


def _shown(one: login.Kept) -> str:
    if one.helper:
        return f"{one.registry or 'any registry'} (by {one.helper})"
    return one.registry


def registries(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Whether these registries answer, or those that there are logins for. They are asked without a login."""
    if find_spec("requests") is None:
        yield Finding(_REGISTRY, NOTE, "not asked: the library requests is missing")
        return
    if not names:
        try:
            names = [one.registry.partition("/")[0] for one in login.kept() if one.registry]
        except CtkError:
            return  # `logins` has told it
    for host in dict.fromkeys(names):
        yield _asked(host)


def _asked(host: str) -> Finding:
    from toolkit.image.name import Reference
    from toolkit.image.registry import client
    from toolkit.image.registry.connection import Limits

    try:
        limits = Limits(connect_s=4.0, stall_s=6.0, retries=0)
        there = client.open(Reference(host, "library/doctor"), anonymous=True, limits=limits)
        try:
            answer = there.greeting()
        finally:
            there.close()
    except CtkError as error:
        what = error.because or str(error)
        return Finding(_REGISTRY, BAD, what if what.startswith(host) else f"{host}: {what}", "ctk pull", error.hint)
    wants = "" if answer.open else ", and wants a login"
    return Finding(_REGISTRY, OK, f"{host} answers at {answer.base}{wants}")
