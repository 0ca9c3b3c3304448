"""oci/types.py says of config.json what oci/schema.py says: the one for the type checker, the other for `ctk check`."""

from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from toolkit.oci import schema, types


def test_the_types_are_the_schemas() -> None:
    assert as_schema(types.Spec) == widened(schema.SPEC)


def as_schema(kind: Any) -> Any:
    """A type in the schema's words."""
    if is_typeddict(kind):
        return {name: as_schema(value) for name, value in get_type_hints(kind).items()}
    if get_origin(kind) is list:
        return [as_schema(get_args(kind)[0])]
    if get_origin(kind) is dict:
        return (as_schema(get_args(kind)[1]),)
    return {str: "str", bool: "bool", int: "int"}[kind]


def widened(kind: Any) -> Any:
    """The schema without the widths of its integers."""
    if isinstance(kind, dict):
        return {name: widened(value) for name, value in kind.items()}
    if isinstance(kind, (list, tuple)):
        return type(kind)(map(widened, kind))
    return kind if kind in ("str", "bool") else "int"
