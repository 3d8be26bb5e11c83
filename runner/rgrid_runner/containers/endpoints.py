"""What containers may reach on private addresses: the resolver, the package index, and what an operator names."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urlsplit

from rgrid_runner.containers.firewall import IPNetwork, Target
from rgrid_shared.errors import UsageError

_INDEX_SETTINGS: Final = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
)
_URL: Final = re.compile(r"https?://[^\s,]+")
_ENDPOINT: Final = re.compile(r"(\[[^\]]+\]|[^:\s]+):(\d+)(?:/(tcp|udp))?")
_PORTS: Final = {"http": 80, "https": 443}
_DNS_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``host``: a name, an address or a network (``10.20.0.0/16``)."""

    host: str
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"


def parse(text: str, setting: str) -> tuple[Endpoint, ...]:
    """``db.lab:5432,10.20.0.0/16:443,[fd00::5]:53/udp``; without a protocol it is tcp. UsageError names ``setting``."""
    return tuple(_endpoint(part.strip(), setting) for part in text.split(",") if part.strip())


def _endpoint(text: str, setting: str) -> Endpoint:
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UsageError(f"{setting}: {text!r} is not HOST:PORT", hint=f"{setting}=db.lab:5432,10.20.0.0/16:443")
    host = match[1].strip("[]")
    if "/" in host or ":" in host:
        try:
            ip_network(host)
        except ValueError as error:
            raise UsageError(f"{setting}: {error}", hint=f"{setting}=10.20.0.0/16:443,[fd00::/64]:443") from None
    return Endpoint(host, int(match[2]), "udp" if match[3] == "udp" else "tcp")


def indexes(env: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Where uv and pip fetch packages with these settings, as far as they name web addresses."""
    urls = (urlsplit(url) for name in _INDEX_SETTINGS for url in _URL.findall(env.get(name, "")))
    return tuple(dict.fromkeys(Endpoint(url.hostname, url.port or _PORTS[url.scheme]) for url in urls if url.hostname))


def resolvers(resolv_conf: str) -> tuple[Endpoint, ...]:
    """The name servers that a container's questions are passed on to, from a ``resolv.conf``.

    A loopback one is not among them: the engine asks it in the container's stead.
    """
    found: list[Endpoint] = []
    for line in resolv_conf.splitlines():
        keyword, *rest = line.split() or [""]
        if keyword != "nameserver" or not rest:
            continue
        try:
            address = ip_address(rest[0].partition("%")[0])
        except ValueError:
            continue
        if not address.is_loopback:
            found += (Endpoint(str(address), _DNS_PORT, "udp"), Endpoint(str(address), _DNS_PORT, "tcp"))
    return tuple(found)


def targets(endpoints: Iterable[Endpoint], addresses: Mapping[str, Iterable[IPv4Address | IPv6Address]]) -> set[Target]:
    """The rules' view of ``endpoints``; a name stands for its ``addresses``, and for nothing without any."""
    return {
        Target(network, endpoint.port, endpoint.protocol)
        for endpoint in endpoints
        for network in _networks(endpoint.host, addresses)
    }


def _networks(host: str, addresses: Mapping[str, Iterable[IPv4Address | IPv6Address]]) -> list[IPNetwork]:
    if literal := literal_network(host):
        return [literal]
    return [ip_network(address) for address in addresses.get(host, ())]


def literal_network(host: str) -> IPNetwork | None:
    """The address or network that ``host`` spells; None if it is a name."""
    try:
        return ip_network(host)
    except ValueError:
        return None


def look_up(host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """All addresses of a name, as this host sees them now. OSError if there is no answer."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(sorted({ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers}, key=str))
