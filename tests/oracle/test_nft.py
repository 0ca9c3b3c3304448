"""Our tables beside nft's: the bytes that we send and the text that we print give the same rules.

`nft -f` makes a table of the text in one network namespace; in another the kernel gets our messages. `nft -j list`
shows what each has.
"""

import errno
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.network import Machine
from toolkit.kernel import netlink
from toolkit.network import table

pytestmark = pytest.mark.root

WEB = bytes((10, 89, 0, 2))
ETHER = b"\x02\x63\x0a\x59\0\2"
INET_ELEMENTS = [
    *table.of_network("ctk0", bytes((10, 89, 0, 0)), 24, internal=False),
    *table.of_network("ctk-next", bytes((10, 89, 1, 0)), 24, internal=False),  # its range begins where that ends
    *table.of_network("ctk-last", bytes((255, 255, 255, 0)), 24, internal=False),
    *table.of_network("ctk-in", bytes((172, 20, 0, 0)), 16, internal=True),
    *table.of_shut("eth0"),
    table.of_publication(6, None, 8080, WEB, 80),
    table.of_publication(17, None, 53, WEB, 5353),
    table.of_publication(6, bytes((127, 0, 0, 1)), 8080, WEB, 80),
    table.of_publication(17, bytes((192, 0, 2, 7)), 65535, WEB, 1),
]
BRIDGE_ELEMENTS = [*table.of_port("ctkv0a590002", ETHER, WEB), *table.of_port("ctkv0a590003", ETHER, WEB)]


@pytest.fixture
def other() -> Iterator[Machine]:
    one = Machine()
    yield one
    one.close()


def commit(machine: Machine, messages: list[netlink.Message]) -> None:
    with machine.entered():
        socket = netlink.Socket(netlink.NETFILTER)
    with socket:
        socket.commit(messages)


def listed(machine: Machine) -> list[Any]:
    """What `nft -j list ruleset` says, without the kernel's own numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items() if name != "handle"}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value

    found = json.loads(machine.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    return [plain(one) for one in found]


def load(machine: Machine, text: str) -> None:
    done = subprocess.run(machine.argv("nft", "-f", "-"), input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tables_are_the_same_by_either_way(machine: Machine, other: Machine) -> None:
    load(machine, table.text())
    commit(other, table.made_again([], []))
    rules = listed(machine)
    assert rules == listed(other)
    assert sum("rule" in one for one in rules) >= 18 and sum("set" in one or "map" in one for one in rules) == 9


@pytest.mark.parametrize("name", [chain.name for chain in (*table.INET_TABLE.chains, *table.BRIDGE_TABLE.chains)])
def test_a_rule_that_is_left_out_is_noticed(name: str, machine: Machine, other: Machine) -> None:
    """The control of the comparison: each chain's rules are in both."""
    for one in (machine, other):
        commit(one, table.made_again([], []))
    family = "bridge" if name in ("guard", "ports") else "inet"
    other.run("nft", "flush", "chain", family, "ctk", name)
    assert listed(machine) != listed(other)


def test_the_elements_are_the_same_by_either_way(machine: Machine, other: Machine) -> None:
    load(machine, table.text())
    lines = [table.INET_TABLE.told("add", one) for one in INET_ELEMENTS]
    lines += [table.BRIDGE_TABLE.told("add", one) for one in BRIDGE_ELEMENTS]
    load(machine, "\n".join(line.removeprefix("nft ") for line in lines))
    commit(other, table.made_again(INET_ELEMENTS, BRIDGE_ELEMENTS))
    assert listed(machine) == listed(other)
    # And each is removed by either way.
    commit(other, [*table.INET_TABLE.drop(INET_ELEMENTS), *table.BRIDGE_TABLE.drop(BRIDGE_ELEMENTS)])
    lines = [table.INET_TABLE.told("delete", one) for one in INET_ELEMENTS]
    lines += [table.BRIDGE_TABLE.told("delete", one) for one in BRIDGE_ELEMENTS]
    load(machine, "\n".join(line.removeprefix("nft ") for line in lines))
    assert listed(machine) == listed(other)
    assert not any(one.get("map", one.get("set", {})).get("elem") for one in listed(other))


def test_tables_are_made_again_if_they_are_another_versions(machine: Machine) -> None:
    with machine.entered():
        socket = netlink.Socket(netlink.NETFILTER)
    with socket:
        assert not table.stand(socket)
        socket.commit(table.made_again(INET_ELEMENTS, BRIDGE_ELEMENTS))
        assert table.stand(socket)
        machine.run("nft", "delete", "table", "bridge", "ctk")
        assert not table.stand(socket), "one of the two is missing"
        load(machine, 'table bridge ctk { comment "ctk 0"; chain ports { }; }')
        assert not table.stand(socket), "it is older"
        socket.commit(table.made_again(INET_ELEMENTS, BRIDGE_ELEMENTS))
        assert table.stand(socket)
        machine.run("nft", "flush", "ruleset")  # as somebody's firewall script does
        assert not table.stand(socket)


def test_an_element_that_is_taken_twice(machine: Machine) -> None:
    first, second = (table.of_publication(6, None, 8080, bytes((10, 89, 0, end)), 80) for end in (2, 3))
    inet = table.INET_TABLE
    commit(machine, table.made_again([first], []))
    for new in (first, second):
        with pytest.raises(netlink.Refused) as caught:
            commit(machine, inet.add([new], new=True))
        assert caught.value.errno == errno.EEXIST
    commit(machine, inet.drop([second]))  # the element of that key, whatever its value
    with pytest.raises(netlink.Refused) as caught:
        commit(machine, inet.drop([second]))
    assert caught.value.errno == errno.ENOENT
    commit(machine, inet.add([second], new=True))


def test_whether_an_element_is_there(machine: Machine) -> None:
    with machine.entered():
        socket = netlink.Socket(netlink.NETFILTER)
    with socket:
        for of, elements in ((table.INET_TABLE, INET_ELEMENTS), (table.BRIDGE_TABLE, BRIDGE_ELEMENTS)):
            single = [one for one in elements if one.last is None]
            for one in single:
                with pytest.raises(netlink.Refused) as caught:
                    socket.ask(of.question(one))
                assert caught.value.errno == errno.ENOENT, "no table"
            socket.commit([*of.made(), *of.add(single[1:])])
            with pytest.raises(netlink.Refused) as caught:
                socket.ask(of.question(single[0]))
            assert caught.value.errno == errno.ENOENT, "no element"
            for one in single[1:]:
                socket.ask(of.question(one))
