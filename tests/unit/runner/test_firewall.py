"""What containers may reach: the rules as the kernel would read them, and what they are made from."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.containers import endpoints, network
from rgrid_runner.containers.bridge import free_subnet
from rgrid_runner.containers.endpoints import Endpoint
from rgrid_runner.containers.firewall import REFUSED, IPNetwork, Rules, Target, Version, removing, restoring
from rgrid_shared.errors import UsageError

Address = IPv4Address | IPv6Address

FRESH = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
ENGINE = """\
*filter
:INPUT ACCEPT [12:720]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -i rgrid0 -p tcp -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -i rgrid0 ! -o rgrid0 -j ACCEPT
-A DOCKER-USER -s 192.0.2.9/32 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
"""
RULES = Rules("rgrid", (Target(ip_network("10.1.2.3/32"), 443), Target(ip_network("fd00::53/128"), 53, "udp")))


def verdict(text: str, chain: str, to: Address, protocol: str, port: int, out: str = "eth0", state: str = "NEW") -> str:
    """What the rules in ``text`` say of a packet: the first that fits, as in iptables(8)."""
    for line in re.findall(rf"^-A {re.escape(chain)} (.*)$", text, re.MULTILINE):
        words = line.split()
        options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("-")}
        fits = (
            ("-d" not in options or to in ip_network(options["-d"]))
            and options.get("-p", protocol) == protocol
            and int(options.get("--dport", port)) == port
            and options.get("-o", out) == out
            and state in options.get("--ctstate", state).split(",")
        )
        if fits:
            target = options["-j"]
            return verdict(text, target, to, protocol, port, out, state) if target.endswith("REFUSE") else target
    return "END"


@pytest.mark.parametrize("version", [4, 6])
@given(data=st.data())
def test_a_private_address_is_refused_whatever_the_port(version: Version, data: st.DataObject) -> None:
    """Through the host or to it: nothing of the refused networks is reached by a packet that is not allowed."""
    text = restoring(RULES, FRESH, version)
    to = data.draw(st.sampled_from(REFUSED[version]).flatmap(lambda where: st.ip_addresses(network=where)))
    protocol = data.draw(st.sampled_from(["tcp", "udp", "sctp"]))
    port = data.draw(st.integers(1, 65535))
    if any(to in target.network and (port, protocol) == (target.port, target.protocol) for target in RULES.allowed):
        return
    assert verdict(text, "RGRID-FORWARD", to, protocol, port) == "REJECT"
    assert verdict(text, "RGRID-INPUT", to, protocol, port) == "REJECT"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "255.255.255.255",
        "224.0.0.251",
        "127.0.0.1",
        "172.31.255.255",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "::1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.1",
        "2002:a9fe:a9fe::1",
    ],
)
def test_metadata_and_special_addresses_are_refused(address: str) -> None:
    """Each by its own address, and those of IPv4 also in the dresses that IPv6 has for them."""
    to = ip_address(address)
    text = restoring(Rules("rgrid"), FRESH, 4 if to.version == 4 else 6)
    assert verdict(text, "RGRID-FORWARD", to, "tcp", 80) == "REJECT"


@pytest.mark.parametrize("address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1"])
def test_public_addresses_go_through_the_hosts_own_rules(address: str) -> None:
    """We say nothing of them; an operator's rules behind ours still may. The host itself is refused by any address."""
    to = ip_address(address)
    text = restoring(RULES, FRESH, 4 if to.version == 4 else 6)
    assert verdict(text, "RGRID-FORWARD", to, "tcp", 443) == "END"
    assert verdict(text, "RGRID-INPUT", to, "tcp", 443) == "REJECT"


def test_what_is_allowed_is_allowed_by_address_port_and_protocol() -> None:
    """Neither another port nor the other protocol comes along."""
    text, to = restoring(RULES, FRESH, 4), ip_address("10.1.2.3")
    assert verdict(text, "RGRID-FORWARD", to, "tcp", 443) == "RETURN"
    assert verdict(text, "RGRID-INPUT", to, "tcp", 443) == "ACCEPT"
    assert verdict(text, "RGRID-FORWARD", to, "udp", 443) == "REJECT"
    assert verdict(text, "RGRID-FORWARD", to, "tcp", 80) == "REJECT"
    assert verdict(restoring(RULES, FRESH, 6), "RGRID-FORWARD", ip_address("fd00::53"), "udp", 53) == "RETURN"


def test_siblings_are_refused_even_in_an_allowed_network() -> None:
    """Allowing the network that the bridge happens to lie in opens no container to another."""
    rules = Rules("rgrid", (Target(ip_network("172.16.0.0/12"), 8000),))
    text = restoring(rules, FRESH, 4)
    assert verdict(text, "RGRID-FORWARD", ip_address("172.30.240.3"), "tcp", 8000, out="rgrid0") == "REJECT"
    assert verdict(text, "RGRID-FORWARD", ip_address("172.16.0.3"), "tcp", 8000) == "RETURN"


def test_connections_that_stand_go_on() -> None:
    """Answers pass first, in both chains."""
    for chain, passed in (("RGRID-FORWARD", "RETURN"), ("RGRID-INPUT", "ACCEPT")):
        text = restoring(RULES, FRESH, 4)
        assert verdict(text, chain, ip_address("10.9.9.9"), "tcp", 1, state="ESTABLISHED") == passed


def test_our_jumps_come_first_and_only_ours_are_moved() -> None:
    """A rule that others put before ours loses its place; no rule of others is removed."""
    text = restoring(RULES, ENGINE, 4)
    assert "-I DOCKER-USER 1 -i rgrid0 -j RGRID-FORWARD" in text.splitlines()
    assert "-I INPUT 1 -i rgrid0 -j RGRID-INPUT" in text.splitlines()
    assert not re.search(r"^-[DFX] ", text, re.MULTILINE)
    assert text.startswith("*filter\n")
    assert text.endswith("\nCOMMIT\n")


def test_applying_again_replaces_the_jumps_wherever_they_are() -> None:
    """Each jump that is there is taken out of the chain that it is in, so that none is there twice."""
    saved = ENGINE.replace(
        "COMMIT",
        "-A DOCKER-USER -i rgrid0 -j RGRID-FORWARD\n-A FORWARD -i rgrid0 -j RGRID-FORWARD\n"
        "-A INPUT -i rgrid0 -j RGRID-INPUT\n-A INPUT -i rgrid0 -j RGRID-INPUT\n-A RGRID-INPUT -j RGRID-REFUSE\nCOMMIT",
    )
    removed = [line for line in restoring(RULES, saved, 4).splitlines() if line.startswith("-D")]
    assert removed == [
        "-D DOCKER-USER -i rgrid0 -j RGRID-FORWARD",
        "-D FORWARD -i rgrid0 -j RGRID-FORWARD",
        "-D INPUT -i rgrid0 -j RGRID-INPUT",
        "-D INPUT -i rgrid0 -j RGRID-INPUT",
    ]


def test_without_the_engines_chain_the_host_forwards_by_ours() -> None:
    """Where DOCKER-USER is missing, or nothing leads to it any more, FORWARD itself jumps to our chain."""
    cut = ENGINE.replace("-A FORWARD -j DOCKER-USER\n", "")
    for saved in (FRESH, cut):
        assert "-I FORWARD 1 -i rgrid0 -j RGRID-FORWARD" in restoring(RULES, saved, 4).splitlines()


def test_removing_names_only_what_is_there() -> None:
    """Nothing there: nothing to do. Chains go after the jumps to them, the one that others use last."""
    assert removing(RULES, ENGINE) == ""
    saved = FRESH.replace(
        "COMMIT",
        ":RGRID-FORWARD - [0:0]\n:RGRID-REFUSE - [0:0]\n-A FORWARD -i rgrid0 -j RGRID-FORWARD\n"
        "-A RGRID-FORWARD -d 10.0.0.0/8 -j RGRID-REFUSE\nCOMMIT",
    )
    assert removing(RULES, saved).splitlines() == [
        "*filter",
        "-D FORWARD -i rgrid0 -j RGRID-FORWARD",
        "-F RGRID-FORWARD",
        "-F RGRID-REFUSE",
        "-X RGRID-FORWARD",
        "-X RGRID-REFUSE",
        "COMMIT",
    ]


def test_endpoints_are_read_as_they_are_written() -> None:
    """Names, addresses, networks and bracketed IPv6, each with its port and protocol."""
    assert endpoints.parse("db.lab:5432, 10.20.0.0/16:443,[fd00::5]:53/udp,", "X") == (
        Endpoint("db.lab", 5432),
        Endpoint("10.20.0.0/16", 443),
        Endpoint("fd00::5", 53, "udp"),
    )


@pytest.mark.parametrize(
    "text", ["db.lab", "db.lab:", "db.lab:0", "db.lab:70000", "10.0.0.1/8:1", "a b:1", ":5", "x:1/icmp"]
)
def test_a_wrong_endpoint_is_named_with_its_setting(text: str) -> None:
    """Nothing is guessed: a network with host bits may have meant another."""
    with pytest.raises(UsageError, match="RGRID_RUNNER_ALLOW_NET"):
        network.from_env({"RGRID_RUNNER_ALLOW_NET": text})


def test_package_indexes_are_found_in_uvs_and_pips_settings() -> None:
    """Host and port of each web address; credentials and local folders leave no trace."""
    env = {
        "UV_DEFAULT_INDEX": "https://user:secret@packages.lab/simple",
        "UV_INDEX": "inner=http://10.0.0.5:3141/root/pypi https://packages.lab/other",
        "PIP_FIND_LINKS": "/srv/wheels file:///srv/more",
    }
    assert endpoints.indexes(env) == (Endpoint("packages.lab", 443), Endpoint("10.0.0.5", 3141))


def test_name_servers_are_allowed_at_their_port_alone() -> None:
    """Both protocols of DNS; loopback ones are asked by the engine and need no rule."""
    text = "# local\nsearch lab\nnameserver 10.0.0.2\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver x\n"
    assert endpoints.resolvers(text) == (
        Endpoint("10.0.0.2", 53, "udp"),
        Endpoint("10.0.0.2", 53, "tcp"),
        Endpoint("fe80::1", 53, "udp"),
        Endpoint("fe80::1", 53, "tcp"),
    )


def test_a_name_stands_for_all_its_addresses_and_for_nothing_without_any() -> None:
    """An unknown name opens nothing."""
    known = {"db.lab": (ip_address("10.0.0.7"), ip_address("fd00::7"))}
    wanted = [Endpoint("db.lab", 5432), Endpoint("gone.lab", 1), Endpoint("10.20.0.0/16", 443)]
    assert endpoints.targets(wanted, known) == {
        Target(ip_network("10.0.0.7/32"), 5432),
        Target(ip_network("fd00::7/128"), 5432),
        Target(ip_network("10.20.0.0/16"), 443),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RGRID_RUNNER_FIREWALL", "maybe"),
        ("RGRID_RUNNER_NETWORK", "Lab"),
        ("RGRID_RUNNER_NETWORK", "a-name-too-long-"),
        ("RGRID_RUNNER_SUBNETS", "172.30.0.1/16"),
        ("RGRID_RUNNER_SUBNETS", "fd00::/64"),
        ("RGRID_RUNNER_SUBNETS", "10.0.0.0/16,10.1.0.0/16"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(name: str, value: str) -> None:
    """The runner does not start on a guess."""
    with pytest.raises(UsageError, match=name):
        network.from_env({name: value})


def test_settings_are_what_the_variables_say() -> None:
    """IPv4 comes first among the subnets, and the firewall is on unless it is switched off."""
    found = network.from_env({"RGRID_RUNNER_SUBNETS": "fd12::/64, 172.30.0.0/20", "RGRID_RUNNER_NETWORK": "lab"})
    assert found.subnets == (ip_network("172.30.0.0/20"), ip_network("fd12::/64"))
    assert (found.name, found.firewall) == ("lab", True)
    assert network.from_env({"RGRID_RUNNER_FIREWALL": "off"}).firewall is False


@given(st.lists(st.ip_addresses(network="172.16.0.0/12").map(ip_network), max_size=6))
def test_the_subnet_is_far_from_everything_that_is_reached(taken: list[IPNetwork]) -> None:
    """Not even the /16 around an address of this host, or one that it reaches, is taken from it."""
    subnet = free_subnet([*taken, ip_network("0.0.0.0/0")])
    assert subnet.is_private
    assert not any(subnet.supernet(new_prefix=16).overlaps(each) for each in taken)
