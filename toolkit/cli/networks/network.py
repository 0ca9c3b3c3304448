"""Networks of containers: `ctk network create|ls|inspect|rm|prune|reload`, `ctk port`."""

import sys

from toolkit.cli import complete, declare, output
from toolkit.cli.declare import Annotated

_PANEL = "Networks"

Name = Annotated[str, declare.Argument(metavar="NAME", help="The network's name.", show_default=False)]
Names = Annotated[list[str], declare.Argument(metavar="NAME…", help="The networks' names.", show_default=False)]
Json = Annotated[bool, declare.Option("--json", help="Print JSON.")]


def register(app: declare.App) -> None:
    """Add the commands."""
    group = declare.App(no_args_is_help=True, help="Make, look at and remove networks of containers.")
    for name, function, libraries, example in (
        ("create", create, False, "Example: ctk network create web --subnet 10.90.0.0/24"),
        ("ls", listing, declare.DRAWN, "Example: ctk network ls"),
        ("inspect", inspect, True, "Example: ctk network inspect web"),
        ("rm", remove, False, "Example: ctk network rm web"),
        ("prune", prune, False, "Example: ctk network prune"),
        ("reload", reload, False, "Example: ctk network reload"),
    ):
        group.command(name, libraries=libraries, epilog=example)(function)
    app.add_group(group, name="network", rich_help_panel=_PANEL)
    app.command("port", libraries=declare.DRAWN, rich_help_panel=_PANEL, epilog="Example: ctk port web")(port)


def create(
    name: Name,
    subnet: Annotated[
        str, declare.Option("--subnet", metavar="ADDRESS/BITS", help="Its addresses.", show_default="a free /24")
    ] = "",
    gateway: Annotated[
        str, declare.Option("--gateway", metavar="ADDRESS", help="The host's own.", show_default="the first")
    ] = "",
    internal: Annotated[
        bool, declare.Option("--internal", help="No way out: its containers reach each other and the host only.")
    ] = False,
    mtu: Annotated[
        int, declare.Option("--mtu", metavar="BYTES", help="Largest packet.", show_default="the way out's", min=0)
    ] = 0,
    label: Annotated[
        list[str] | None, declare.Option("--label", metavar="NAME=VALUE", help="A note.", show_default=False)
    ] = None,
) -> None:
    """Make a network: `ctk run --net NAME` puts a container on it. Its bridge is made when the first one comes."""
    from toolkit.network import manage

    found = manage.create(name, subnet=subnet, gateway=gateway, internal=internal, mtu=mtu, labels=label or ())
    output.out(f"{found.name} {found.subnet}\n")


def listing(json: Json = False) -> None:
    """List the networks."""
    from toolkit.network import manage, model
    from toolkit.ui import tables

    found = manage.listing()
    if json:
        output.document([one.as_json() for one in found])
        return
    rows = tuple(
        (
            one.network.name,
            str(one.network.subnet),
            model.shown(one.network.gateway),
            one.network.link,
            "internal" if one.network.internal else "",
            str(len(one.living)),
        )
        for one in found
    )
    headings = ("NAME", "SUBNET", "GATEWAY", "BRIDGE", "", "CONTAINERS")
    tables.show([tables.Table(headings, rows, "", (5,), "no networks")], sys.stdout)


def inspect(name: Name, json: Json = False) -> None:
    """Show a network: its addresses, its containers and their ports, and what the kernel has of it."""
    from toolkit.network import kernel_view, manage, model
    from toolkit.ui import quantity, tables

    found = manage.one(name)
    seen = kernel_view.look(found.network.link)
    if json:
        view = None if seen is None else {"up": seen.up, "mtu": seen.mtu, "addresses": seen.addresses}
        output.document({**found.as_json(), "kernel": view})
        return
    told, rows = found.as_json(), []
    for one in told["containers"]:
        received, sent = seen.ports.get(one["link"], (0, 0)) if seen is not None else (0, 0)
        ports = ", ".join(map(model.told, one["ports"]))
        size = quantity.size
        rows.append((one["id"], one["address"], one["ethernet"], ports, size(received), size(sent)))
    state = "not there: it is made when a container needs it"
    if seen is not None:
        state = f"{'up' if seen.up else 'down'}, mtu {seen.mtu}, {', '.join(seen.addresses)}"
    about = [(key, str(told[key])) for key in ("subnet", "gateway", "internal", "created")]
    about += [(f"label {key}", value) for key, value in told["labels"].items()]
    headings = ("ID", "ADDRESS", "ETHERNET", "PORTS", "RECEIVED", "SENT")
    tables.show(
        [
            tables.Table(("", ""), (*about, (f"bridge {told['link']}", state)), f"network {name}"),
            tables.Table(headings, tuple(rows), "containers", (4, 5), "none"),
        ],
        sys.stdout,
    )


def remove(names: Names) -> None:
    """Remove networks that have no running container."""
    from toolkit.network import manage

    for name in names:
        manage.remove(name)
        output.out(f"{name}\n")


def prune() -> None:
    """Remove the networks that no running container is on, and what killed containers left in the tables.

    The default network stays.
    """
    from toolkit.network import manage

    names, dead = manage.prune()
    for name in names:
        output.out(f"removed network {name}\n")
    if dead:
        output.out(f"removed what {dead} killed container{'s' if dead > 1 else ''} left\n")
    if not names and not dead:
        output.out("nothing to remove\n")


def reload() -> None:
    """Make the nftables tables again, with all networks, containers and ports: after a firewall flushed them."""
    from toolkit.network import manage

    manage.reload()


def port(
    identity: Annotated[
        str,
        declare.Argument(
            metavar="ID", help="The container's name.", show_default=False, autocompletion=complete.containers
        ),
    ],
    json: Json = False,
    root: Annotated[
        str, declare.Option("--root", metavar="DIR", help="Folder of the container records.", show_default=False)
    ] = "",
) -> None:
    """Show the published ports of a running container: its port, the host's, and who reaches it."""
    from toolkit import places
    from toolkit.network import manage
    from toolkit.runtime import lifecycle, record
    from toolkit.ui import tables

    container = record.load(root or places.runtime_root(), identity)
    found = manage.ports(container.extra.get("networks")) if lifecycle.alive(container) else []
    if json:
        keys = ("container", "host", "reachedBy")
        output.document([dict(zip(keys, row, strict=True)) for row in found])
        return
    tables.show([tables.Table(("PORT", "HOST", "REACHED BY"), tuple(found), "", (), "no published ports")], sys.stdout)
