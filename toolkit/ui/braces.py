"""Paths as a brace expression of a shell."""


def braced(paths: list[str]) -> str:
    """Paths as one brace expression of a shell: what they have in common is outside the braces."""
    if len(set(paths)) == 1:
        return paths[0]
    parts = [path.split("/") for path in paths]
    shortest = min(map(len, parts))
    head = next((n for n in range(shortest) if len({tuple(part[: n + 1]) for part in parts}) > 1), shortest)
    tail = next((n for n in range(shortest - head) if len({tuple(part[len(part) - n - 1 :]) for part in parts}) > 1), 0)
    middle = ["/".join(part[head : len(part) - tail]) for part in parts]
    before, after = "/".join(parts[0][:head]), "/".join(parts[0][len(parts[0]) - tail :]) if tail else ""
    return f"{before}/{{{','.join(dict.fromkeys(middle))}}}" + (f"/{after}" if after else "")
