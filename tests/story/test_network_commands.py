"""`ctk network …` and `ctk port`, on a host made of a network namespace (tests/fixtures/network.py)."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.fixtures.network import Town
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root


def test_a_network_from_making_to_removal(town: Town) -> None:
    made = town.ctk("network", "create", "web", "--subnet", "10.90.0.0/24", "--mtu", "1400", "--label", "a=b").ok()
    assert made.out == "web 10.90.0.0/24\n"
    assert "ctk-web" not in town.host.run("ip", "-o", "link").stdout, "a container makes its bridge"
    (listed,) = town.ctk("network", "ls", "--json").json()
    assert listed["name"] == "web" and listed["labels"] == {"a": "b"} and listed["containers"] == []
    assert "not there" in town.ctk("network", "inspect", "web").ok().out

    name = town.serve("-p", "8080:80", net="web")
    assert "mtu 1400" in town.inside(name, "ip", "link", "show", "eth0").stdout
    told = town.ctk("network", "inspect", "web", "--json").json()
    assert told["kernel"] == {"up": True, "mtu": 1400, "addresses": ["10.90.0.1/24"]}
    (container,) = told["containers"]
    assert (container["id"], container["address"]) == (name, "10.90.0.2")
    shown = town.ctk("network", "inspect", "web").ok().out
    assert name in shown and "127.0.0.1:8080->80/tcp" in shown and "mtu 1400, 10.90.0.1/24" in shown and "a" in shown
    row = [line.split() for line in town.ctk("network", "ls").ok().out.splitlines() if line.startswith("web")]
    assert row == [["web", "10.90.0.0/24", "10.90.0.1", "ctk-web", "1"]]

    refused = town.ctk("network", "rm", "web")
    assert refused.rc == 1 and f"it has containers: '{name}'" in refused.err
    town.ctk("delete", "--force", name).ok()
    assert town.ctk("network", "rm", "web").ok().out == "web\n"
    assert "ctk-web" not in town.host.run("ip", "-o", "link").stdout
    assert town.ctk("network", "ls", "--json").json() == []
    assert town.elements() == {name: [] for name in town.elements()}, "no element of it is left"
    gone = town.ctk("network", "rm", "web")
    assert gone.rc == 1 and "there is no such network" in gone.err


def test_bytes_are_counted_for_the_container(town: Town) -> None:
    name = town.serve()
    before = town.ctk("network", "inspect", "bridge").ok().out
    for _ in range(20):
        assert town.asks(town.host, f"{town.address(name)}:80") == name
    assert town.ctk("network", "inspect", "bridge").ok().out != before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("web", "--subnet", "10.90.0.1/24"), "bits set after its prefix"),
        (("web", "--subnet", "10.90.0.0"), "no subnet such as"),
        (("web", "--subnet", "127.0.0.0/24"), "a meaning of their own"),
        (("web", "--subnet", "10.90.0.0/24", "--gateway", "10.91.0.1"), "is not one of its addresses"),
        (("web", "--subnet", "10.90.0.0/24", "--gateway", "x"), "is not an IPv4 address"),
        (("web", "--subnet", "192.0.2.0/25"), "the host's route to 192.0.2.0/24 is in the way"),
        (("web", "--subnet", "10.80.0.0/16"), "network 'here' (10.80.7.0/24) is in the way"),
        (("web", "--mtu", "60"), "an MTU of 60 bytes"),
        (("web", "--label", "x"), "is not NAME=VALUE"),
        (("here",), "there is one of that name"),
        (("host",), "means something else already"),
        (("../x",), "is no name for one"),
    ],
)
def test_what_is_no_network_is_refused_and_not_made(words: tuple[str, ...], why: str, town: Town) -> None:
    town.ctk("network", "create", "here", "--subnet", "10.80.7.0/24").ok()
    refused = town.ctk("network", "create", *words)
    assert refused.rc == 1 and why in " ".join(refused.err.split()), refused.err
    assert [one["name"] for one in town.ctk("network", "ls", "--json").json()] == ["here"]


def test_names_that_are_long_have_bridges_of_their_own(town: Town) -> None:
    names = ["a-very-long-name-" + end for end in "xyz"]
    for name in names:
        town.ctk("network", "create", name).ok()
    listed = town.ctk("network", "ls", "--json").json()
    assert len({one["link"] for one in listed}) == 3 and len({one["subnet"] for one in listed}) == 3
    first = town.serve(net=names[0])
    assert town.asks(town.host, f"{town.address(first)}:80") == first


def test_prune_takes_what_killed_containers_left_and_idle_networks(town: Town) -> None:
    for name in ("idle", "busy"):
        town.ctk("network", "create", name).ok()
    living, dead = town.serve("-p", "8081:80", net="busy"), town.serve("-p", "8080:80")
    os.kill(town.pid(dead), signal.SIGKILL)
    until(lambda: town.ctk("state", dead).json()["status"] == "stopped", "its end")
    assert len(town.elements()["ports_at"]) == 2
    said = town.ctk("network", "prune").ok().out
    assert said == "removed network idle\nremoved what 1 killed container left\n"
    assert len(town.elements()["ports_at"]) == 1 and len(town.elements()["addresses"]) == 1
    assert town.asks(town.host, "127.0.0.1:8081") == living
    assert [one["name"] for one in town.ctk("network", "ls", "--json").json()] == ["bridge", "busy"]
    assert town.ctk("network", "prune").ok().out == "nothing to remove\n"


def test_reload_makes_the_tables_again(town: Town) -> None:
    name = town.serve("-p", "8080:80")
    town.host.run("nft", "flush", "ruleset")
    assert town.asks(town.host, "127.0.0.1:8080") == ""
    town.ctk("network", "reload").ok()
    assert town.asks(town.host, "127.0.0.1:8080") == name


def test_a_removal_leaves_a_strangers_bridge_alone(town: Town) -> None:
    town.ctk("network", "create", "web").ok()
    town.host.run("ip", "link", "add", "ctk-web", "type", "bridge")
    town.ctk("network", "rm", "web").ok()
    assert "ctk-web" in town.host.run("ip", "-o", "link").stdout


def test_ports_and_who_reaches_them(town: Town) -> None:
    name = town.serve("-p", "8080:80", "-p", "0.0.0.0:5300:53/udp")
    assert town.ctk("port", name, "--json").json() == [
        {"container": "80/tcp", "host": "127.0.0.1:8080", "reachedBy": "this host"},
        {"container": "53/udp", "host": "0.0.0.0:5300", "reachedBy": "everybody who reaches this host"},
    ]
    assert "127.0.0.1:8080" in town.ctk("port", name).ok().out
    os.kill(town.pid(name), signal.SIGKILL)
    until(lambda: town.ctk("state", name).json()["status"] == "stopped", "its end")
    assert town.ctk("port", name).ok().out == "no published ports\n"
    assert town.ctk("port", "nobody").rc == 1
    # A record that somebody has damaged is told, and is no traceback.
    facts = Path(town.ctk.root) / name / "state.json"
    document = json.loads(facts.read_text())
    document["extra"]["networks"] = [{"ports": [7]}]
    other = town.serve()
    there = Path(town.ctk.root) / other / "state.json"
    theirs = json.loads(there.read_text())
    theirs["extra"]["networks"] = document["extra"]["networks"]
    there.write_text(json.dumps(theirs))
    done = town.ctk("port", other)
    assert done.rc == 1 and "its record is damaged" in done.err
