"""Networks as they are written: addresses, subnets, --net, -p. The addresses beside Python's own ipaddress."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import Invalid, Usage
from toolkit.network import model


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_read_as_it_is_shown(address: int) -> None:
    assert model.shown(address) == str(ipaddress.IPv4Address(address))
    assert model.number(model.shown(address)) == address


@given(st.text(st.sampled_from("0123456789./ -x"), max_size=18))
def test_what_is_no_address_or_subnet_is_refused_as_ipaddress_does(text: str) -> None:
    for ours, theirs in (
        (model.number, lambda text: int(ipaddress.IPv4Address(text))),
        (lambda text: str(model.Subnet.parse(text)), lambda text: str(ipaddress.IPv4Network(text))),
    ):
        found, expected = [], []
        for read, into in ((ours, found), (theirs, expected)):
            try:
                into.append(read(text))
            except ValueError:
                into.append(None)
        if "/" not in text and ours is not model.number:
            continue  # ipaddress takes a lone address for a subnet of one
        if "/" in text and "." in text.partition("/")[2]:
            assert found == [None]  # and a mask for a prefix
            continue
        assert found == expected, text


@given(st.integers(0, 2**32 - 1), st.integers(8, 30), st.integers(0, 2**32 - 1), st.integers(8, 30))
def test_subnets_overlap_as_ipaddress_says(one: int, first: int, other: int, second: int) -> None:
    ours = [model.Subnet(number & -(1 << 32 - bits), bits) for number, bits in ((one, first), (other, second))]
    theirs = [ipaddress.IPv4Network(str(subnet)) for subnet in ours]
    assert ours[0].overlaps(ours[1]) == theirs[0].overlaps(theirs[1])
    assert (other in ours[0]) == (ipaddress.IPv4Address(other) in theirs[0])
    assert model.shown(ours[0].last) == str(theirs[0].broadcast_address)


def published(*words: str) -> list[str]:
    return [model.told(one) for text in words for one in model.parse_publication(text)]


def test_published_ports() -> None:
    assert published("8080:80") == ["127.0.0.1:8080->80/tcp"], "only the host itself reaches it, by default"
    assert published("0.0.0.0:8080:80", "192.0.2.7:53:5353/udp") == [
        "0.0.0.0:8080->80/tcp",
        "192.0.2.7:53->5353/udp",
    ]
    assert published("80", ":80", "0.0.0.0::80") == [
        "127.0.0.1:0->80/tcp",
        "127.0.0.1:0->80/tcp",
        "0.0.0.0:0->80/tcp",
    ]
    assert published("8000-8002:80-82") == [f"127.0.0.1:{8000 + at}->{80 + at}/tcp" for at in range(3)]
    assert published("80/") == ["127.0.0.1:0->80/tcp"]
    assert published("80-81") == ["127.0.0.1:0->80/tcp", "127.0.0.1:0->81/tcp"]


@pytest.mark.parametrize(
    "text",
    ["", "0:80", "80:0", "65536:80", "80/sctp", "x:80", "1:2:3:4", "localhost:80:80", "80-70", "1-2000:1-2000",
     "8000-8001:80", "[::1]:80:80", "1.2.3:80:80", "80:80/tcp/udp", " 80", "+80", "1_0:80", "٣:80"],
)  # fmt: skip
def test_what_is_no_published_port(text: str) -> None:
    with pytest.raises(Usage):
        model.parse_publication(text)


def test_ports_clash_if_a_packet_could_be_for_both() -> None:
    every, here, there, other, udp = (
        model.parse_publication(text)[0]
        for text in ("0.0.0.0:80:1", "80:1", "192.0.2.7:80:1", "0.0.0.0:81:1", "0.0.0.0:80:1/udp")
    )
    assert model.clash(every, every) and model.clash(every, here) and model.clash(here, every)
    assert not model.clash(here, there) and not model.clash(every, other) and not model.clash(every, udp)


def test_choices_of_a_network() -> None:
    for text, kind, name in (
        ("none", "none", ""),
        ("host", "host", ""),
        ("bridge", "network", "bridge"),
        ("web-1", "network", "web-1"),
        ("container:c1", "container", "c1"),
        ("ns:/run/netns/a:b", "ns", "/run/netns/a:b"),
    ):
        found = model.parse_choice(text)
        assert (found.kind, found.name) == (kind, name)
    found = model.parse_choice("bridge:ip=10.89.0.7,mac=02:00:00:00:00:01")
    assert (model.shown(found.address), found.ethernet.hex()) == ("10.89.0.7", "020000000001")


@pytest.mark.parametrize(
    "text",
    ["", "container:", "ns:", "none:x", "host:ip=1.2.3.4", "bridge:ip=1.2.3", "bridge:mac=01:00:00:00:00:01",
     "bridge:mac=00:00:00:00:00:00", "bridge:mtu=9", "bridge:", ".x", "-x", "a/b", "a b", "pasta", "x" * 65],
)  # fmt: skip
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(Usage):
        model.parse_choice(text)


@given(st.text(min_size=1, max_size=64, alphabet=st.sampled_from("abcXYZ019_.-")))
def test_every_name_has_a_link_that_the_kernel_takes(name: str) -> None:
    try:
        model.check_name(name)
    except Usage:
        return
    link = model.link_of(name)
    assert model.check_link(link) == link and not link.startswith("ctkv"), "that is for ports"
    assert len(model.port_link(2**32 - 1)) <= 15


def test_a_network_is_read_as_it_was_written() -> None:
    one = model.Network("web", "ctk-web", model.Subnet.parse("10.89.1.0/24"), model.number("10.89.1.1"))
    one.mtu, one.internal, one.labels, one.created = 1400, True, {"a": "b"}, "2026-01-01T00:00:00Z"
    assert model.Network.of(one.document(), "web.json").document() == one.document()
    for name, value in (
        ("name", "../x"), ("link", "a\nb"), ("link", "x" * 16), ("subnet", "10.89.1.1/24"), ("gateway", "10.89.2.1"),
        ("gateway", "10.89.1.0"), ("mtu", "many"), ("labels", []), ("subnet", "127.0.0.0/24"), ("subnet", 7),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=r"web\.json"):
            model.Network.of({**one.document(), name: value}, "web.json")
    with pytest.raises(Invalid):
        model.Network.of([], "web.json")


@pytest.mark.parametrize("subnet", ["10.0.0.0/7", "10.89.0.0/30", "127.0.0.0/8", "169.254.7.0/24", "224.0.0.0/24"])
def test_subnets_that_no_network_can_have(subnet: str) -> None:
    found = model.Subnet.parse(subnet)
    with pytest.raises(Usage):
        model.check_subnet(found, found.first + 1)
