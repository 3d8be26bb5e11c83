"""The containers' network on this machine: real containers, the real engine, the kernel's own answer to each packet."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest
from docker.errors import NotFound
from docker.models.containers import Container
from support.engine import IMAGE
from support.waiting import until

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import bridge, endpoints, firewall
from rgrid_runner.containers.endpoints import Endpoint
from rgrid_runner.containers.firewall import Rules
from rgrid_runner.containers.network import ContainerNetwork, NetworkSettings, host_resolvers
from rgrid_shared.errors import UsageError

Asked = tuple[str, int] | tuple[str, int, str]

AT_ONCE_S = 2.0
SUBNETS = (ip_network("172.29.240.0/24"), ip_network("fd7c:3d11:90aa::/64"))
PROBE = """
import json, socket, sys, time
def ask(host, port, protocol):
    started = time.monotonic()
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as line:
            line.settimeout(5)
            line.connect(address)
            if protocol == "udp":
                line.send(b"?")
                line.recv(1)
        said = "open"
    except TimeoutError:
        said = "silent"
    except OSError as error:
        said = error.strerror or "refused"
    return said, time.monotonic() - started
print(json.dumps([ask(*each) for each in json.loads(sys.argv[1])]))
"""
HAMMER = """
import socket, sys, time
opened = asked = 0
print("up", flush=True)
until = time.monotonic() + 3
while time.monotonic() < until:
    asked += 1
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        opened += 1
    except OSError:
        pass
print(asked, opened)
"""
LISTEN = """
import socket, threading
def answer(line):
    while True:
        _, peer = line.recvfrom(10)
        line.sendto(b"!", peer)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); udp.bind(("::", 8000))
threading.Thread(target=answer, args=(udp,), daemon=True).start()
tcp = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
while True:
    tcp.accept()[0].close()
"""


@dataclass(frozen=True)
class Answer:
    """What came of one try to reach something: ``open``, ``silent`` (nothing came back) or the error's words."""

    said: str
    seconds: float

    @property
    def refused_at_once(self) -> bool:
        return self.said not in ("open", "silent") and self.seconds < AT_ONCE_S


@dataclass
class Site:
    """A network under test, and containers on it."""

    engine: docker.DockerClient
    network: ContainerNetwork

    def run(self, *command: str, network: str = "") -> Container:
        """A container as the backend hardens it, on this network or another."""
        return self.engine.containers.run(
            IMAGE,
            list(command),
            detach=True,
            read_only=True,
            user="10001:10001",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            network=network or self.network.require(),
            labels={"io.rgrid.test": self.network.settings.name},
        )

    def ask(self, container: Container, *asked: Asked) -> list[Answer]:
        """Try to reach these from inside, one after another."""
        wanted = json.dumps([(*each, "tcp")[:3] for each in asked])
        code, said = container.exec_run(["python3", "-c", PROBE, wanted])
        assert code == 0, said
        assert isinstance(said, bytes)
        return [Answer(*each) for each in json.loads(said)]

    def address(self, container: Container, key: str = "IPAddress") -> str:
        container.reload()
        networks: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"]
        return str(networks[self.network.settings.name][key])

    @property
    def rules(self) -> Rules:
        return Rules(self.network.settings.name)


@pytest.fixture(scope="module")
def site(docker_engine: docker.DockerClient) -> Iterator[Site]:
    """A network of IPv4 and IPv6 of its own name, so that a runner of this machine is not disturbed."""
    name = f"t{secrets.token_hex(3)}"
    it = Site(docker_engine, ContainerNetwork(NetworkSettings(name, subnets=SUBNETS)))
    asyncio.run(it.network.open())
    yield it
    for container in docker_engine.containers.list(all=True, filters={"label": f"io.rgrid.test={name}"}):
        container.remove(force=True)
    docker_engine.networks.get(name).remove()
    firewall.remove(Rules(name))


@pytest.fixture(scope="module")
def inside(site: Site) -> Container:
    """A container that waits to be told what to reach."""
    container = site.run("sleep", "infinity")
    site.ask(container, (str(SUBNETS[1][1]), 1))  # a new bridge makes sure for seconds that its IPv6 address is its own
    return container


@pytest.fixture
async def allowing(site: Site) -> AsyncIterator[Any]:
    """Change what is allowed or whether there is a firewall, for one test."""
    before = site.network.settings

    async def change(**changes: Any) -> None:
        site.network.settings = replace(before, **changes)
        await site.network.run_once()

    yield change
    await change()


@contextmanager
def listener(port: int = 0) -> Iterator[int]:
    """A service of this host on all its addresses, as a database or an object store would be; its port."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        thread = threading.Thread(target=_accept, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def host_addresses(bridge: str) -> list[str]:
    """All addresses by which a container might reach this host: of link-local ones, that of its own link."""
    told = json.loads(subprocess.check_output(["ip", "-json", "address"], text=True))
    found = ((interface["ifname"], address["local"]) for interface in told for address in interface["addr_info"])
    local = [f"{address}%eth0" for name, address in found if name == bridge and address.startswith("fe80")]
    assert local
    every = (address["local"] for interface in told for address in interface["addr_info"])
    return local + [each for each in every if not ip_address(each).is_loopback and not each.startswith("fe80")]


def saved() -> str:
    """The rules of both IP versions, without what changes by itself."""
    told = "".join(
        subprocess.check_output([f"{tool}-save", "-t", "filter"], text=True) for tool in ("iptables", "ip6tables")
    )
    return "\n".join(line.partition(" [")[0] for line in told.splitlines() if not line.startswith("#"))


def tools(*rules: str) -> None:
    for rule in rules:
        for tool in ("iptables", "ip6tables"):
            subprocess.run([tool, *rule.split()], check=False, stderr=subprocess.DEVNULL)


def test_metadata_and_private_addresses_are_refused_at_once(site: Site, inside: Container) -> None:
    """Nothing hangs: the script has its error within two seconds, for each kind of address and both protocols."""
    asked: list[Asked] = [
        ("169.254.169.254", 80),
        ("169.254.169.254", 80, "udp"),
        ("169.254.170.2", 80),
        ("100.100.100.200", 80),
        ("168.63.129.16", 80),
        ("10.0.0.1", 443),
        ("10.0.0.1", 53, "udp"),
        ("172.16.0.1", 443),
        ("192.168.0.1", 443),
        ("fd00:ec2::254", 80),
        ("fd20:ce::254", 80),
        ("64:ff9b::a9fe:a9fe", 80),
    ]
    for each, answer in zip(asked, site.ask(inside, *asked), strict=True):
        assert answer.refused_at_once, (each, answer)


def test_no_service_of_the_host_is_reached_by_any_of_its_addresses(site: Site, inside: Container) -> None:
    """Bridge gateway, engine's own bridge, the host's addresses in its networks: of IPv4, IPv6, and link-local."""
    gateway4, gateway6 = (str(subnet[1]) for subnet in SUBNETS)
    with listener() as port:
        addresses = host_addresses(site.rules.bridge)
        assert {gateway4, gateway6} <= set(addresses)
        asked = [(address, port) for address in addresses]
        for each, answer in zip(asked, site.ask(inside, *asked), strict=True):
            assert answer.refused_at_once, (each, answer)


async def test_the_rules_are_what_refuses(site: Site, inside: Container, allowing: Any) -> None:
    """The same service is reached with the firewall switched off, and is refused again when it is on."""
    with listener() as port:
        asked = [(str(subnet[1]), port) for subnet in SUBNETS]
        await allowing(firewall=False)
        assert [answer.said for answer in site.ask(inside, *asked)] == ["open", "open"]
        assert site.rules.forward not in saved()
        await allowing()
        assert all(answer.refused_at_once for answer in site.ask(inside, *asked))


async def test_an_allowed_endpoint_is_reached_and_nothing_beside_it(
    site: Site, inside: Container, allowing: Any
) -> None:
    """By name or address, at its port alone; everything else of the same host stays closed."""
    gateway4, gateway6 = (str(subnet[1]) for subnet in SUBNETS)
    site.network._look_up = lambda _: (ip_address(gateway6),)
    with listener() as port, listener() as other:
        await allowing(allow=(Endpoint(gateway4, port), Endpoint("store.lab", port)))
        opened = site.ask(inside, (gateway4, port), (gateway6, port))
        closed = site.ask(inside, (gateway4, other), (gateway6, other), ("172.17.0.1", port))
    site.network._look_up = endpoints.look_up
    assert [answer.said for answer in opened] == ["open", "open"]
    assert all(answer.refused_at_once for answer in closed), closed


def test_siblings_do_not_reach_each_other(site: Site, inside: Container) -> None:
    """Neither by IPv4 nor by the engine's name for it; of IPv6 they do not even hear each other's calls."""
    sibling = site.run("python3", "-c", LISTEN)
    until(sibling.logs, what="the sibling's listening")
    asked: list[Asked] = []
    for host in (site.address(sibling), str(sibling.name)):
        asked += [(host, 8000), (host, 8000, "udp")]
    for each, answer in zip(asked, site.ask(inside, *asked), strict=True):
        assert answer.refused_at_once, (each, answer)
    (answer,) = site.ask(inside, (site.address(sibling, "GlobalIPv6Address"), 8000))
    assert answer.said != "open"
    alone = ("127.0.0.1", 8000), ("::1", 8000, "udp")
    assert [answer.said for answer in site.ask(sibling, *alone)] == ["open", "open"]


def test_containers_of_other_networks_are_not_reached(site: Site, inside: Container) -> None:
    """A service that the host's operator runs in a container on the engine's own bridge is as closed as any other."""
    other = site.run("python3", "-c", LISTEN, network="bridge")
    until(other.logs, what="the other's listening")
    other.reload()
    (answer,) = site.ask(inside, (other.attrs["NetworkSettings"]["IPAddress"], 8000))
    assert answer.refused_at_once


def test_names_are_resolved_by_the_hosts_name_servers(site: Site, inside: Container) -> None:
    """The resolver is allowed although its address may be private; its other ports are not."""
    url = index_url()
    assert socket.getaddrinfo(url.hostname, None)
    code, said = inside.exec_run(
        ["python3", "-c", "import socket, sys; socket.gethostbyname(sys.argv[1])", url.hostname]
    )
    assert code == 0, said
    private = [each.host for each in host_resolvers() if ip_address(each.host).is_private and each.protocol == "tcp"]
    assert all(answer.refused_at_once for answer in site.ask(inside, *((host, 54) for host in private)))


async def test_the_package_index_is_reached(site: Site, inside: Container, allowing: Any) -> None:
    """The index that pip uses on this host is open to containers, whether its address is public or private."""
    url = index_url()
    assert url.hostname
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    try:
        socket.create_connection((url.hostname, port), 10).close()
    except OSError as error:
        pytest.skip(f"this host does not reach a package index: {error}")
    await allowing(allow=endpoints.indexes({"PIP_INDEX_URL": url.geturl()}))
    (answer,) = site.ask(inside, (url.hostname, port))
    assert answer.said == "open"


def index_url() -> Any:
    """Where pip looks for packages here: its setting, else what it has built in."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not (told := os.environ.get("PIP_INDEX_URL") or told):
        built_in = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
        told = subprocess.check_output([sys.executable, "-c", built_in], text=True).strip()
    return urlsplit(told)


def test_no_network_is_none(site: Site) -> None:
    """``none`` has no way out at all: not even an address."""
    alone = site.run("sleep", "infinity", network="none")
    answers = site.ask(alone, ("1.1.1.1", 443), (str(SUBNETS[0][1]), 80), ("169.254.169.254", 80))
    assert all(answer.refused_at_once for answer in answers)


async def test_applying_twice_changes_nothing(site: Site) -> None:
    """The second time finds what the first left, rule for rule, those of others included."""
    await site.network.run_once()
    first = saved()
    await site.network.run_once()
    assert saved() == first


async def test_flushed_rules_come_back(site: Site, inside: Container) -> None:
    """Whatever another tool did to our chains or to the jumps to them, the next round puts right."""
    before, rules = saved(), site.rules
    with listener() as port:
        asked = [(str(subnet[1]), port) for subnet in SUBNETS]
        for damage in (
            [f"-D INPUT -i {rules.bridge} -j {rules.input}", f"-D DOCKER-USER -i {rules.bridge} -j {rules.forward}"],
            [f"-F {chain}" for chain in rules.chains],
            [f"-I {rules.input} -j ACCEPT", f"-I {rules.forward} -j ACCEPT"],
            [f"-I INPUT -i {rules.bridge} -j {rules.input}"],
        ):
            tools(*damage)
            assert saved() != before
            await site.network.run_once()
            assert saved() == before
            assert all(answer.refused_at_once for answer in site.ask(inside, *asked))


async def test_there_is_no_moment_without_rules(site: Site) -> None:
    """While the rules are put in force again and again, not one of many tries gets through."""
    with listener() as port:
        hammer = site.run("python3", "-c", HAMMER, str(SUBNETS[0][1]), str(port))
        until(hammer.logs, what="the first try")
        for _ in range(20):
            await site.network.run_once()
        assert hammer.wait()["StatusCode"] == 0
    asked, opened = map(int, hammer.logs().split()[1:])
    assert asked > 100
    assert opened == 0


async def test_without_the_tools_no_container_gets_a_network(
    docker_engine: docker.DockerClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is missing and which setting gives the protection up; that setting then works."""
    name = site.network.settings.name
    fresh = ContainerNetwork(NetworkSettings(name, subnets=SUBNETS))
    with pytest.raises(BackendError):
        fresh.require()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendError, match="no iptables-save") as caught:
        await fresh.open()
    assert "RGRID_RUNNER_FIREWALL=off" in caught.value.hint
    given_up = ContainerNetwork(NetworkSettings(name, firewall=False, subnets=SUBNETS))
    await given_up.open()
    assert given_up.require() == name
    monkeypatch.undo()
    await fresh.run_once()
    assert fresh.require() == name


def test_a_network_with_other_settings_is_made_anew(docker_engine: docker.DockerClient) -> None:
    """Ours and unused: replaced. In use, or not ours: left alone, and the error says what to do."""
    name = f"t{secrets.token_hex(3)}"
    network = docker_engine.networks.create(name, labels={bridge.LABEL: name})
    try:
        bridge.ensure(name, ())
        made = docker_engine.networks.get(name)
        assert made.id != network.id
        assert made.attrs["Options"]["com.docker.network.bridge.enable_icc"] == "false"
        assert made.attrs["Options"]["com.docker.network.bridge.name"] == Rules(name).bridge
        bridge.ensure(name, ())
        assert docker_engine.networks.get(name).id == made.id
        user = docker_engine.containers.run(IMAGE, ["sleep", "infinity"], detach=True, network=name)
        with pytest.raises(UsageError, match="other settings"):
            bridge.ensure(name, SUBNETS[:1])
        user.remove(force=True)
        made.remove()
        docker_engine.networks.create(name)
        with pytest.raises(UsageError, match="not a runner's"):
            bridge.ensure(name, ())
    finally:
        docker_engine.networks.get(name).remove()
    with pytest.raises(NotFound):
        docker_engine.networks.get(name)


def test_the_bridge_takes_no_longer_packets_than_the_way_out(site: Site) -> None:
    """Else large answers from the internet are lost on hosts whose own network takes less than 1500 bytes."""
    made = site.engine.networks.get(site.network.settings.name)
    assert made.attrs["Options"].get("com.docker.network.driver.mtu", "0") == str(bridge.route_mtu())
