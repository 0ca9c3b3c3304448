"""Options in groups: a command takes a dataclass where typer expects one parameter per option.

typer reads a command's signature, so a command with sixty options would need sixty parameters.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the signature that typer needs: a parameter that is a dataclass becomes one option per field."""
    groups: dict[str, Any] = {}
    every: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for one in inspect.signature(command).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            every.append(one)
        elif is_dataclass(hints[one.name]):
            groups[one.name] = hints[one.name]
            every += _options(hints[one.name])
        else:
            every.append(one.replace(kind=one.KEYWORD_ONLY, annotation=hints[one.name]))

    def grouped(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    grouped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    grouped.__annotations__ = {one.name: one.annotation for one in every}
    grouped.__doc__, grouped.__name__ = command.__doc__, command.__name__
    return grouped


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]
