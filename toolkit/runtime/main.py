"""argv of the runtime verbs (being built)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str]") -> None:
    """Carry out a runtime verb and exit; return if `argv` names none."""
