"""The engine's part of the containers' network: a bridge with a fixed name, on which containers cannot talk.

The engine would choose a subnet that one of this host's routes leads to, so we choose one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers.firewall import IPNetwork, Rules
from rgrid_shared.errors import UsageError
from rgrid_shared.states import FailureClass

LABEL: Final = "io.rgrid.network"
_BRIDGE_NAME: Final = "com.docker.network.bridge.name"
_BETWEEN_CONTAINERS: Final = "com.docker.network.bridge.enable_icc"
_MTU: Final = "com.docker.network.driver.mtu"
_TIMEOUT_S: Final = 60
_CONFLICT: Final = 409
_ROUTES: Final = Path("/proc/net/route")
_NEIGHBOURHOOD: Final = 16
# 4,094 containers each. Not 172.17.0.0/16 and 172.31.0.0/16: defaults of the engine and of a cloud.
_CANDIDATES: Final = tuple(
    subnet
    for pool in (*(f"172.{number}.0.0/16" for number in range(30, 17, -1)), "10.240.0.0/12", "192.168.0.0/16")
    for subnet in IPv4Network(pool).subnets(new_prefix=20)
)


def ensure(name: str, subnets: Sequence[IPNetwork], reached: Iterable[IPNetwork] = ()) -> None:
    """Make the network ``name`` unless it is there and fits.

    ``subnets``: none, and one of IPv4 is chosen, away from this host's routes and from what is ``reached`` otherwise.
    UsageError if the name is taken by something else; BackendError if the engine is at fault.
    """
    import docker
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env
    from requests.exceptions import RequestException

    try:
        with closing(docker.APIClient(version="auto", timeout=_TIMEOUT_S, **kwargs_from_env())) as client:
            _ensure(client, name, subnets, reached)
    except (DockerException, RequestException) as error:
        text = getattr(error, "explanation", None) or error
        message = f"The Docker engine did not make the network {name}: {text}"
        hint = "Is a subnet free? RGRID_RUNNER_SUBNETS names one."
        raise BackendError(message, FailureClass.INFRASTRUCTURE, hint=hint) from error


def _ensure(client: Any, name: str, subnets: Sequence[IPNetwork], reached: Iterable[IPNetwork]) -> None:
    from docker.errors import APIError

    if found := _named(client, name):
        if LABEL not in (found.get("Labels") or {}):
            raise UsageError(
                f"There is a Docker network {name} that is not a runner's.",
                hint="RGRID_RUNNER_NETWORK=another-name",
            )
        if _fits(found, name, subnets):
            return
        if found["Containers"]:
            raise UsageError(
                f"The Docker network {name} has other settings, and containers are on it.",
                hint="Let their scripts end, or stop them; then start the runner again.",
            )
        client.remove_network(found["Id"])
    try:
        _create(client, name, subnets or (_chosen(client, reached),))
    except APIError as error:
        # Another runner of this host was faster.
        if error.status_code != _CONFLICT or not (found := _named(client, name)) or not _fits(found, name, subnets):
            raise


def _named(client: Any, name: str) -> dict[str, Any] | None:
    ids = [found["Id"] for found in client.networks(names=[name]) if found["Name"] == name]
    return client.inspect_network(ids[0]) if ids else None


def _create(client: Any, name: str, subnets: Sequence[IPNetwork]) -> None:
    from docker.types import IPAMConfig, IPAMPool

    mtu = route_mtu()
    client.create_network(
        name,
        driver="bridge",
        options=_options(name) | ({_MTU: str(mtu)} if mtu else {}),
        ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet)) for subnet in subnets]),
        check_duplicate=True,
        labels={LABEL: name},
        enable_ipv6=_has_ipv6(subnets),
    )


def _fits(found: Mapping[str, Any], name: str, subnets: Sequence[IPNetwork]) -> bool:
    there = {str(pool["Subnet"]) for pool in found["IPAM"]["Config"] or ()}
    return (
        found["Driver"] == "bridge"
        and _options(name).items() <= (found["Options"] or {}).items()
        and bool(found["EnableIPv6"]) is _has_ipv6(subnets)
        and (not subnets or there == {str(subnet) for subnet in subnets})
    )


def _options(name: str) -> dict[str, str]:
    return {_BRIDGE_NAME: Rules(name).bridge, _BETWEEN_CONTAINERS: "false"}


def _has_ipv6(subnets: Sequence[IPNetwork]) -> bool:
    return any(subnet.version == 6 for subnet in subnets)


def _chosen(client: Any, reached: Iterable[IPNetwork]) -> IPv4Network:
    pools = (pool for network in client.networks() for pool in (network.get("IPAM") or {}).get("Config") or ())
    others = (ip_network(pool["Subnet"]) for pool in pools if pool.get("Subnet"))
    return free_subnet([*others, *(route for route, _ in _routes(_ROUTES.read_text())), *reached])


def free_subnet(taken: Iterable[IPNetwork]) -> IPv4Network:
    """A private subnet that is far from all that is ``taken``. BackendError if there is none.

    A host's networks are larger than its routes tell, since the rest is reached by the gateway: a private address
    takes its whole /16.
    """
    wide = [
        network.supernet(new_prefix=_NEIGHBOURHOOD) if network.prefixlen > _NEIGHBOURHOOD else network
        for network in taken
        if isinstance(network, IPv4Network) and network.prefixlen
    ]
    for subnet in _CANDIDATES:
        if not any(subnet.overlaps(network) for network in wide):
            return subnet
    raise BackendError(
        "No private subnet is free for the network of containers.",
        FailureClass.INFRASTRUCTURE,
        hint="RGRID_RUNNER_SUBNETS=172.30.0.0/20 names one.",
    )


def _routes(text: str) -> Iterator[tuple[IPv4Network, str]]:
    """Destination and interface of each line of ``/proc/net/route``, whose numbers have the host's byte order."""
    for line in text.splitlines()[1:]:
        interface, destination, *_, mask, _, _, _ = line.split()
        address, bits = (IPv4Address(int(number, 16).to_bytes(4, sys.byteorder)) for number in (destination, mask))
        yield IPv4Network(f"{address}/{bits}", strict=False), interface


def route_mtu() -> int:
    """The longest packet (bytes) that this host's way out takes, 0 if there is none: a bridge's must not be longer."""
    for route, interface in _routes(_ROUTES.read_text()):
        if not route.prefixlen:
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 0
