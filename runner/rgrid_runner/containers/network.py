"""The network of a runner's containers: a bridge of its own, and the firewall that stands behind it.

The bridge's subnet is chosen away from what this host reaches, unless the operator names one. IPv6 is on where a subnet
for it is named. Rules are put in force when the runner starts and each minute again, because others (the
engine, the host's own firewall) flush and reorder what they find. While they are not in force, ``require`` refuses.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Final

from rgrid_runner.containers import bridge, endpoints, firewall
from rgrid_runner.containers.endpoints import Endpoint
from rgrid_runner.containers.firewall import FirewallError, IPNetwork, Rules, Target
from rgrid_shared.errors import UsageError

log: Final = logging.getLogger("rgrid.runner")

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,13}")
# The engine passes questions to the name servers of the first that lists more than a stub on loopback.
_RESOLV_CONF: Final = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_ENGINE_SETTINGS: Final = Path("/etc/docker/daemon.json")

VARIABLES: Final[dict[str, str]] = {
    "RGRID_RUNNER_FIREWALL": "off: containers with a network reach whatever this host reaches; default: on",
    "RGRID_RUNNER_ALLOW_NET": "Private addresses that containers may reach: db.lab:5432,10.20.0.0/16:443,…",
    "RGRID_RUNNER_NETWORK": "Name of the containers' network, its bridge and its firewall chains; default: rgrid",
    "RGRID_RUNNER_SUBNETS": "Its subnets: 172.30.0.0/16,fd12:3456::/64; default: one that is free",
}


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """``allow``: what containers may reach on private addresses, beside the host's name servers.

    ``subnets``: at most one of each IP version; none: one of IPv4 is chosen.
    """

    name: str = "rgrid"
    firewall: bool = True
    allow: tuple[Endpoint, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()


def from_env(env: Mapping[str, str]) -> NetworkSettings:
    """Read the settings, and the package indexes that uv's and pip's name. UsageError names the variable in error."""
    name = env.get("RGRID_RUNNER_NETWORK") or "rgrid"
    if not _NAME.fullmatch(name):
        raise UsageError(f"RGRID_RUNNER_NETWORK must be 1 to 14 of a-z, 0-9 and -, not {name!r}")
    switch = (env.get("RGRID_RUNNER_FIREWALL") or "on").lower()
    if switch not in {"on", "off"}:
        raise UsageError(f"RGRID_RUNNER_FIREWALL is on or off, not {switch!r}")
    allow = endpoints.parse(env.get("RGRID_RUNNER_ALLOW_NET", ""), "RGRID_RUNNER_ALLOW_NET")
    return NetworkSettings(name, switch == "on", (*endpoints.indexes(env), *allow), _subnets(env))


def _subnets(env: Mapping[str, str]) -> tuple[IPNetwork, ...]:
    texts = [text.strip() for text in env.get("RGRID_RUNNER_SUBNETS", "").split(",") if text.strip()]
    try:
        subnets = tuple(sorted(map(ip_network, texts), key=lambda subnet: subnet.version))
    except ValueError as error:
        raise UsageError(f"RGRID_RUNNER_SUBNETS: {error}", hint=VARIABLES["RGRID_RUNNER_SUBNETS"]) from None
    if [subnet.version for subnet in subnets] not in ([], [4], [4, 6]):
        raise UsageError("RGRID_RUNNER_SUBNETS takes one subnet of IPv4 and at most one of IPv6")
    return subnets


class ContainerNetwork:
    """What containers with a network are put on.

    ``look_up``: all addresses of a name; OSError if there is no answer.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        look_up: Callable[[str], tuple[IPv4Address | IPv6Address, ...]] = endpoints.look_up,
    ) -> None:
        self.settings = settings
        self._look_up = look_up
        self._addresses: dict[str, tuple[IPv4Address | IPv6Address, ...]] = {}
        self._unresolved: set[str] = set()
        self._failure = "it is not open yet"
        self._hint = ""

    def require(self) -> str:
        """The engine's name of the network, for a container to be made on it. FirewallError while that must not be."""
        if self._failure:
            raise FirewallError(f"Containers get no network: {self._failure}", hint=self._hint)
        return self.settings.name

    async def open(self) -> None:
        """Make the network, or take over the one that is there, and put the rules in force.

        UsageError if its name is taken by something else; BackendError if the engine or the firewall is at fault.
        """
        await asyncio.to_thread(self._ensure)
        if not self.settings.firewall:
            log.warning("RGRID_RUNNER_FIREWALL=off: scripts with a network reach all that this host reaches")
        await self.run_once()
        self.require()

    async def keep(self, every_s: float = 60.0) -> None:
        """Put the rules in force again and again, until cancelled."""
        while self.settings.firewall:
            await asyncio.sleep(every_s)
            await self.run_once()

    async def run_once(self) -> None:
        """Put the rules in force, with the addresses that names have now. A failure is kept for ``require``."""
        try:
            await asyncio.to_thread(self._apply if self.settings.firewall else self._withdraw)
        except FirewallError as error:
            if not self._failure:
                log.error("containers get no network: %s", error.message)
            self._failure, self._hint = error.message, error.hint
        else:
            self._failure = ""

    def _ensure(self) -> None:
        reached = [target.network for target in self._allowed()]
        bridge.ensure(self.settings.name, self.settings.subnets, reached)

    def _withdraw(self) -> None:
        """An earlier runner's rules go; a host without the tools has none."""
        if shutil.which("iptables-restore"):
            firewall.remove(Rules(self.settings.name))

    def _apply(self) -> None:
        firewall.apply(Rules(self.settings.name, self._allowed()))

    def _allowed(self) -> tuple[Target, ...]:
        wanted = (*host_resolvers(), *self.settings.allow)
        for host in {endpoint.host for endpoint in wanted if endpoints.literal_network(endpoint.host) is None}:
            try:
                self._addresses[host] = self._look_up(host)
                self._unresolved.discard(host)
            except OSError as error:  # it keeps the addresses that it had
                if host not in self._unresolved:
                    log.warning("containers may reach %s, but it has no address: %s", host, error)
                    self._unresolved.add(host)
        return tuple(endpoints.targets(wanted, self._addresses))


def host_resolvers() -> tuple[Endpoint, ...]:
    """The name servers that the engine lets containers ask: its own setting's, else this host's."""
    try:
        named = json.loads(_ENGINE_SETTINGS.read_text()).get("dns", [])
    except (OSError, ValueError, AttributeError):
        named = []
    if named:
        return endpoints.resolvers("\n".join(f"nameserver {address}" for address in named))
    for path in _RESOLV_CONF:
        if path.exists() and (found := endpoints.resolvers(path.read_text())):
            return found
    return ()
