"""Attacks on networks; each has its control, which shows that it bites without the rule.

The attacker of a container stands in its network namespace as root of the machine, which is more than any program in a
container can be.
"""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.fixtures.command import tool
from tests.fixtures.network import Machine, Town
from tests.fixtures.waiting import until
from toolkit.network import model
from toolkit.network.store import Store

pytestmark = pytest.mark.root

GATEWAY = "10.89.0.1"

# Sends an Ethernet frame with an ARP answer: `sender` has `ether`. Several, as a neighbour's entry is locked for 1 s.
ARP = """
import socket, sys, time
link, ether, sender, target, target_ether = sys.argv[1:]
mac = lambda text: bytes.fromhex(text.replace(":", ""))
packed = lambda text: bytes(map(int, text.split(".")))
end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
end.bind((link, 0))
frame = mac(target_ether) + mac(ether) + b"\\x08\\x06" + bytes((0, 1, 8, 0, 6, 4, 0, 2))
frame += mac(ether) + packed(sender) + mac(target_ether) + packed(target)
for _ in range(6):
    end.send(frame)
    time.sleep(0.3)
"""
# Sends router advertisements to all nodes: this is the way out for half an hour.
ADVERTISE = """
import socket, struct, sys, time
link = sys.argv[1]
end = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link))
for _ in range(3):
    end.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0))
    time.sleep(0.2)
"""


def python(town: Town, name: str, program: str, *words: str) -> None:
    argv = [tool("nsenter"), f"--net=/proc/{town.pid(name)}/ns/net", "--", sys.executable, "-I", "-c",
            textwrap.dedent(program), *words]  # fmt: skip
    subprocess.run(argv, check=True, timeout=60)


def own_loopback_goes_to(run, gateway: str) -> None:  # type: ignore[no-untyped-def]
    """Whoever `run` runs programs as has no 127.0.0.1 of its own any more: packets for it go to the gateway."""
    run("ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
    run("sysctl", "-q", "net.ipv4.conf.all.route_localnet=1")
    run("ip", "route", "add", "127.0.0.1/32", "via", gateway)


def test_a1_a_neighbour_asks_for_what_is_published_on_loopback(town: Town) -> None:
    name = town.serve("-p", "8080:80")
    own_loopback_goes_to(town.neighbour.run, town.HOST)
    assert town.asks(town.host, "127.0.0.1:8080") == name
    assert town.asks(town.neighbour, "127.0.0.1:8080") == ""
    town.without("loopback")
    assert town.asks(town.neighbour, "127.0.0.1:8080") == name, "the control"


def test_a2_a_neighbour_routes_the_networks_addresses_to_us(town: Town) -> None:
    name = town.serve("-p", "8080:80")
    address = town.address(name)
    town.neighbour.run("ip", "route", "add", "10.89.0.0/24", "via", town.HOST)
    assert town.asks(town.host, f"{address}:80") == name
    assert town.asks(town.neighbour, f"{address}:80") == ""
    town.without("passing")
    assert town.asks(town.neighbour, f"{address}:80") == name, "the control"


def test_a3_a_container_asks_for_what_the_host_has_on_loopback(town: Town) -> None:
    """CVE-2020-8558."""
    name = town.serve()
    served = town.host.argv(tool("busybox"), "httpd", "-f", "-p", "127.0.0.1:9000", "-h", "/")
    with subprocess.Popen(served) as server:
        try:
            until(lambda: town.asks(town.host, "127.0.0.1:9000", "-i"), "the host's server")
            own_loopback_goes_to(lambda *words: town.inside(name, *words), GATEWAY)
            assert town.asks(name, "127.0.0.1:9000", "-i") == ""
            town.without("loopback")
            assert town.asks(name, "127.0.0.1:9000", "-i") != "", "the control"
        finally:
            server.kill()


def neighbours_entry(town: Town, name: str) -> str:
    return town.inside(name, "ip", "neighbour", "show", GATEWAY).stdout


def test_a4_a_container_answers_for_the_gateway(town: Town) -> None:
    victim, attacker = town.serve(), town.serve()
    attackers = model.ethernet_address(model.number(town.address(attacker))).hex(":")
    victims = model.ethernet_address(model.number(town.address(victim))).hex(":")

    def poison() -> None:
        # An entry to be poisoned.
        town.inside(victim, "busybox", "ping", "-c1", "-W1", GATEWAY, check=False)
        assert "lladdr" in neighbours_entry(town, victim)
        python(town, attacker, ARP, "eth0", attackers, GATEWAY, town.address(victim), victims)

    poison()
    assert attackers not in neighbours_entry(town, victim)
    town.without("guard", "bridge")
    poison()
    assert attackers in neighbours_entry(town, victim), "the control"


@pytest.mark.parametrize("of", ["an address that nobody has", "another Ethernet address"])
def test_a5_a_container_speaks_from_an_address_that_is_not_its_own(of: str, town: Town) -> None:
    victim, attacker = town.serve(), town.serve()
    options: tuple[str, ...] = ()
    if of == "an address that nobody has":
        town.inside(attacker, "ip", "address", "add", "10.89.0.77/24", "dev", "eth0")
        options = ("--interface", "10.89.0.77")
    assert town.asks(attacker, f"{town.address(victim)}:80") == victim
    if of != "an address that nobody has":
        town.inside(attacker, "ip", "link", "set", "eth0", "address", "02:63:00:00:00:99")
    assert town.asks(attacker, f"{town.address(victim)}:80", *options) == ""
    town.without("guard", "bridge")
    town.inside(victim, "ip", "neighbour", "flush", "all")
    assert town.asks(attacker, f"{town.address(victim)}:80", *options) == victim, "the control"


def test_a6_a_container_advertises_itself_as_a_router(town: Town) -> None:
    """CVE-2020-10749, CVE-2020-13401."""
    victim, attacker = town.serve(), town.serve()

    def routes() -> str:
        return town.inside(victim, "ip", "-6", "route", "show", "default").stdout

    for name, address in ((victim, "fe80::a/64"), (attacker, "fe80::b/64")):  # good at once: their own take 2 s
        town.inside(name, "ip", "address", "add", address, "dev", "eth0", "nodad")
    assert town.inside(victim, "sysctl", "-n", "net.ipv6.conf.eth0.accept_ra").stdout.strip() == "1", "it would listen"
    python(town, attacker, ADVERTISE, "eth0")
    assert routes() == ""
    assert town.host.run("ip", "-6", "route", "show", "default").stdout == ""
    town.without("guard", "bridge")
    python(town, attacker, ADVERTISE, "eth0")
    assert "default" in until(routes, "the control: the route that was advertised")
    assert town.host.run("ip", "-6", "route", "show", "default").stdout == "", "the bridge has no IPv6"


def test_containers_of_two_networks_do_not_reach_each_other(town: Town) -> None:
    """And what is internal reaches nobody, even with a route."""
    store = town.ctk.environment["CTK_DATA"] + "/networks"
    for name, subnet, internal in (("other", "10.90.0.0/24", False), ("inner", "10.91.0.0/24", True)):
        found = model.Subnet.parse(subnet)
        network = model.Network(name, model.link_of(name), found, found.first + 1)
        network.internal = internal
        with Store(store) as opened:
            opened.save(network)
    here, there, inner = town.serve(), town.serve(net="other"), town.serve(net="inner")
    outside = town.neighbour.argv(tool("busybox"), "httpd", "-f", "-p", "80", "-h", "/")
    with subprocess.Popen(outside) as server:
        try:
            assert town.asks(here, f"{town.address(there)}:80") == ""
            assert town.asks(there, f"{town.address(here)}:80") == ""
            for name in (here, there):
                until(lambda name=name: town.asks(name, f"{town.NEIGHBOUR}:80", "-i"), "an answer from outside")
            assert town.inside(inner, "ip", "route", "show", "default").stdout == ""
            town.inside(inner, "ip", "route", "add", "default", "via", "10.91.0.1")
            for address in (town.address(here), town.NEIGHBOUR):
                assert town.asks(inner, f"{address}:80", "-i") == ""
            assert town.asks(town.host, f"{town.address(inner)}:80") == inner, "the host itself reaches it"
            town.without("passing")
            assert town.asks(here, f"{town.address(there)}:80") == there, "the control"
            assert town.asks(inner, f"{town.address(here)}:80") == here, "the control"
        finally:
            server.kill()


@pytest.mark.parametrize("before", ["0", "1"])
def test_a_host_that_forwarded_nothing_does_not_become_a_router(before: str, town: Town) -> None:
    far = Machine()
    try:
        town.host.cable(far, "eth1", "eth0")
        town.host.run("ip", "address", "add", "198.51.100.1/24", "dev", "eth1")
        far.run("ip", "address", "add", "198.51.100.9/24", "dev", "eth0")
        far.run("ip", "route", "add", "default", "via", "198.51.100.1")
        town.neighbour.run("ip", "route", "add", "default", "via", town.HOST)
        town.host.run("sysctl", "-q", f"net.ipv4.ip_forward={before}")

        def passes() -> bool:
            done = town.neighbour.run("busybox", "ping", "-c1", "-W1", "198.51.100.9", check=False)
            return done.returncode == 0

        assert passes() == (before == "1")
        name = town.serve("-p", "0.0.0.0:8080:80")
        assert town.host.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "1\n"
        assert passes() == (before == "1")
        assert town.asks(far, "198.51.100.1:8080") == name, "what was published is reached from there"
        if before == "0":
            town.without("passing")
            assert passes(), "the control"
    finally:
        far.close()


@pytest.mark.parametrize("side", ["parent", "child"])
def test_a12_killed_at_every_step(side: str, town: Town) -> None:
    """Whatever is left, `delete` takes back, and the same ports and the same name can be had again."""
    bundle = town._bundle("killed").sh("exit 7")
    name = town.ctk.id()
    words = ("run", "--net", "bridge", "-p", "8080:80", "--bundle", str(bundle), name)
    for point in range(1, 80):
        done = town.ctk(*words, env={"CTK_TEST_KILL": f"{side}:{point}"})
        town.ctk("delete", "--force", name).ok()
        until(lambda: not town.left(), f"the end of what was killed at {side}:{point}")
        assert town.ctk(*words).rc == 7, point
        if done.rc == 7:
            break
    else:
        pytest.fail("no run got through")
    assert point > 3


def test_a12_a_deletion_that_is_killed_at_every_step(town: Town) -> None:
    for point in range(1, 40):
        name = town.serve("-p", "8080:80")
        done = town.ctk("delete", "--force", name, env={"CTK_TEST_KILL": f"parent:{point}"})
        town.ctk("delete", "--force", name).ok()
        until(lambda: not town.left(), f"the end of what was killed at {point}")
        if done.rc == 0:
            break
    assert 3 < point < 39


def test_a12_what_a_killed_container_leaves_the_next_one_takes(town: Town) -> None:
    """Nobody deletes the container that was killed: its port is free all the same, and its element replaced."""
    first = town.serve("-p", "8080:80")
    address = town.address(first)
    os.kill(town.pid(first), signal.SIGKILL)
    until(lambda: town.ctk("state", first).json()["status"] == "stopped", "its end")
    assert len(town.elements()["ports_at"]) == 1, "nobody was there to remove it"
    second = town.serve("-p", "8080:80")
    assert town.address(second) != address, "an address is not given again while others are fresh"
    assert len(town.elements()["ports_at"]) == 1
    assert town.asks(town.host, "127.0.0.1:8080") == second
    town.ctk("delete", first).ok()
    assert town.asks(town.host, "127.0.0.1:8080") == second, "the late deletion of the first leaves it alone"


def test_a13_an_address_is_given_again_without_what_led_to_it(town: Town) -> None:
    subnet = model.Subnet.parse("10.90.0.0/29")  # room for five
    with Store(town.ctk.environment["CTK_DATA"] + "/networks") as store:
        store.save(model.Network("small", "ctk-small", subnet, subnet.first + 1))
    first = town.serve("-p", "8080:80", net="small")
    for _ in range(4):
        town.serve(net="small")
    refused = town.ctk("run", "--net", "small", "--bundle", str(town._bundle("none")), town.ctk.id())
    assert refused.rc == 1 and "all 5 addresses of 10.90.0.0/29 are taken" in refused.err
    address = town.address(first)
    os.kill(town.pid(first), signal.SIGKILL)
    until(lambda: town.ctk("state", first).json()["status"] == "stopped", "its end")
    assert town.elements()["ports_at"] != []
    again = town.serve(net="small")
    assert town.address(again) == address
    assert town.elements()["ports_at"] == [] and town.asks(town.host, "127.0.0.1:8080") == ""
