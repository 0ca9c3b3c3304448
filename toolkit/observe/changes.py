"""What has changed in a root file system since `ctk bootstrap` finished it."""

import os

from toolkit.bootstrap.output import manifest, target
from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound
from toolkit.events import Emit
from toolkit.kernel import subids
from toolkit.kernel.host import HostFacts
from toolkit.observe.living import Tree


def since_bootstrap(tree: Tree, emit: Emit) -> list[tuple[str, str]]:
    """(A, C or D, path) of each change, sorted by path. Raises NotFound for a tree without a record.

    An ordinary user with subordinate ids becomes root of a user namespace, to read files that belong to those ids.
    """
    if os.geteuid() != 0 and len(subids.of_caller()[0]) > 1 and not HostFacts().user_namespaces:
        found: list[tuple[str, str]] = rootless.run(changed_here, tree, emit)
        return found
    return changed_here(tree, emit)


def changed_here(tree: Tree, emit: Emit) -> list[tuple[str, str]]:  # noqa: ARG001 (rootless.run calls such functions)
    """The changes, read with the rights of this process. Raises NotFound, CtkError."""
    rootfs = tree.rootfs
    doing = f"compare {rootfs!r} with what was bootstrapped"
    record = target.read_document(rootfs).get("tree")
    if record is None:
        because = f"there is no record of it ({target.result_path(rootfs)})"
        hint = "only a folder that `ctk bootstrap` made has one: a copy has none, nor does a tree made otherwise"
        raise NotFound(doing, because=because, hint=hint)
    try:
        return list(manifest.changes(record, tree.seen_at, tree.mounted))
    except ValueError as error:
        raise CtkError(doing, because=f"{target.result_path(rootfs)} is damaged: {error}") from None
