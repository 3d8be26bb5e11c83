"""Which packets the containers of a bridge may send: rules for iptables and ip6tables, and putting them in force.

Two chains of our own do it. ``RGRID-FORWARD``, jumped to from ``DOCKER-USER``, sees what containers send through the
host; ``RGRID-INPUT``, jumped to from ``INPUT``, what they send to the host itself (the bridge's gateway is the host:
``DOCKER-USER`` alone leaves it open). What is refused is rejected, not dropped, so that a script fails at once.

All changes are one transaction of ``iptables-restore --noflush``: there is no moment without rules. Only a packet of
an established connection, one to an allowed target, and one to a public address pass; passing ``RGRID-FORWARD`` means
going on through the host's own rules, so an operator's stricter ones in ``DOCKER-USER`` hold as well.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal

from rgrid_runner.backends.base import BackendError
from rgrid_shared.states import FailureClass

IPNetwork = IPv4Network | IPv6Network
Version = Literal[4, 6]

_REFUSED_4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT; holds a metadata service, 100.100.100.200
    "127.0.0.0/8",
    "168.63.129.16/32",  # public by its looks: the platform service of one cloud's hosts
    "169.254.0.0/16",  # link-local; metadata services
    "172.16.0.0/12",
    "192.0.0.0/24",  # IETF assignments; holds a metadata service, 192.0.0.192
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",  # with broadcast
)
_REFUSED_6: Final = (
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "64:ff9b:1::/48",
    "2001::/32",  # Teredo and 6to4 carry IPv4 addresses, private ones too
    "2002::/16",
    "fc00::/7",  # unique local; metadata services, fd00:ec2::254 and fd20:ce::254
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
# NAT64 (RFC 6052) leads to IPv4 addresses: those that are refused are refused that way, too.
_NAT64: Final = tuple(
    f"64:ff9b::{network.network_address}/{96 + network.prefixlen}" for network in map(IPv4Network, _REFUSED_4)
)
REFUSED: Final[dict[Version, tuple[IPNetwork, ...]]] = {
    4: tuple(map(ip_network, _REFUSED_4)),
    6: tuple(map(ip_network, _REFUSED_6 + _NAT64)),
}
"""Networks of which nothing is reached but what is allowed: metadata services, private, link-local and special ranges
(RFC 6890 and the clouds' own pages)."""

_NEIGHBOUR_DISCOVERY: Final = ("135", "136")
_RETURNING: Final = "-m conntrack --ctstate RELATED,ESTABLISHED"
_TIMEOUT_S: Final = 20.0
_TRIES: Final = 3
_HINT: Final = "install iptables and run as root, or give up protection by RGRID_RUNNER_FIREWALL=off"
_BRIDGE_SYSCTLS: Final = Path("/proc/sys/net/bridge")
_IPV6: Final = Path("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One port of an address or network that containers may reach although it is refused otherwise."""

    network: IPNetwork
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one bridge. ``name`` (at most 14 of ``a-z0-9-``) names the bridge and the chains."""

    name: str
    allowed: tuple[Target, ...] = ()

    @property
    def bridge(self) -> str:
        """The bridge's interface."""
        return f"{self.name}0"

    @property
    def forward(self) -> str:
        """The chain of what goes through the host."""
        return f"{self.name.upper()}-FORWARD"

    @property
    def input(self) -> str:
        """The chain of what goes to the host."""
        return f"{self.name.upper()}-INPUT"

    @property
    def refuse(self) -> str:
        """The chain that rejects."""
        return f"{self.name.upper()}-REFUSE"

    @property
    def chains(self) -> tuple[str, str, str]:
        """All chains, those that use others first."""
        return self.forward, self.input, self.refuse


def restoring(rules: Rules, saved: str, version: Version) -> str:
    """Input for ``iptables-restore --noflush`` that puts ``rules`` in force, whatever of them is there already.

    ``saved``: what ``iptables-save -t filter`` says now. Our jumps become the first rules of their chains again.
    """
    lines = ["*filter", *(f":{chain} - [0:0]" for chain in rules.chains), *_jumps_removed(rules, saved)]
    jump = f"-i {rules.bridge} -j"
    lines += [f"-I {_parent(saved)} 1 {jump} {rules.forward}", f"-I INPUT 1 {jump} {rules.input}"]
    lines += [f"-A {rules.forward} {rule}" for rule in _forwarded(rules, version)]
    lines += [f"-A {rules.input} {rule}" for rule in _to_host(rules, version)]
    lines += [f"-A {rules.refuse} {rule}" for rule in _refusals(version)]
    return "\n".join([*lines, "COMMIT", ""])


def removing(rules: Rules, saved: str) -> str:
    """Input for ``iptables-restore --noflush`` that takes away what is there of ``rules``; empty if nothing is."""
    there = [chain for chain in rules.chains if re.search(rf"^:{re.escape(chain)} ", saved, re.MULTILINE)]
    lines = [*_jumps_removed(rules, saved), *(f"-F {chain}" for chain in there), *(f"-X {chain}" for chain in there)]
    return "\n".join(["*filter", *lines, "COMMIT", ""]) if lines else ""


def _parent(saved: str) -> str:
    """Where forwarded packets come by first: DOCKER-USER if the engine made it and leads there."""
    return "DOCKER-USER" if re.search(r"^-A FORWARD -j DOCKER-USER$", saved, re.MULTILINE) else "FORWARD"


def _jumps_removed(rules: Rules, saved: str) -> Iterator[str]:
    ours = re.compile(rf"-A (\S+) (.*-[jg] (?:{re.escape(rules.forward)}|{re.escape(rules.input)}))")
    for line in saved.splitlines():
        if (match := ours.fullmatch(line.strip())) and match[1] not in rules.chains:
            yield f"-D {match[1]} {match[2]}"


def _forwarded(rules: Rules, version: Version) -> Iterator[str]:
    yield f"{_RETURNING} -j RETURN"
    yield f"-o {rules.bridge} -j {rules.refuse}"  # siblings; before what is allowed, which may be a whole network
    yield from (f"{_match(target)} -j RETURN" for target in _of(rules.allowed, version))
    yield from (f"-d {network} -j {rules.refuse}" for network in REFUSED[version])


def _to_host(rules: Rules, version: Version) -> Iterator[str]:
    yield f"{_RETURNING} -j ACCEPT"
    if version == 6:  # without it the gateway cannot be found
        yield from (f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in _NEIGHBOUR_DISCOVERY)
    yield from (f"{_match(target)} -j ACCEPT" for target in _of(rules.allowed, version))
    yield f"-j {rules.refuse}"


def _refusals(version: Version) -> Iterator[str]:
    yield "-p tcp -j REJECT --reject-with tcp-reset"
    yield f"-j REJECT --reject-with {'icmp-admin-prohibited' if version == 4 else 'icmp6-adm-prohibited'}"


def _match(target: Target) -> str:
    return f"-d {target.network} -p {target.protocol} -m {target.protocol} --dport {target.port}"


def _of(targets: Sequence[Target], version: Version) -> list[Target]:
    return sorted({target for target in targets if target.network.version == version}, key=str)


class FirewallError(BackendError):
    """The rules are not in force: containers must not have a network."""

    title = "The firewall of containers is not in force"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, FailureClass.INFRASTRUCTURE, hint=hint)


def apply(rules: Rules) -> None:
    """Put ``rules`` in force for IPv4, and for IPv6 where the kernel has it. FirewallError if that cannot be.

    May be called again at any time, and by several at once: the outcome is the same.
    """
    _check_bridged_packets_are_seen()
    for version in _versions():
        _change(version, lambda saved, version: restoring(rules, saved, version))


def remove(rules: Rules) -> None:
    """Take the rules away; what does not exist is no error. Containers on the bridge are unprotected from then on."""
    for version in _versions():
        _change(version, lambda saved, _: removing(rules, saved))


def _check_bridged_packets_are_seen() -> None:
    """Containers of one bridge reach each other below IP, unless the kernel shows such packets to iptables."""
    names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
    for name in names[: len(_versions())]:
        try:
            on = (_BRIDGE_SYSCTLS / name).read_text().strip() == "1"
        except OSError:
            on = False
        if not on:
            raise FirewallError(
                "containers of one network cannot be kept apart: the kernel does not filter packets within a bridge",
                hint=f"modprobe br_netfilter; sysctl -w net.bridge.{name}=1",
            )


def _versions() -> tuple[Version, ...]:
    return (4, 6) if _IPV6.exists() else (4,)


def _change(version: Version, change: Callable[[str, Version], str]) -> None:
    """One transaction that ``change`` writes from what is there; again if somebody else changed it in between."""
    tool = "iptables" if version == 4 else "ip6tables"
    for left in reversed(range(_TRIES)):
        wanted = change(_run([f"{tool}-save", "-t", "filter"], ""), version)
        if not wanted:
            return
        try:
            _run([f"{tool}-restore", "--noflush", "-w", "5"], wanted)
        except FirewallError:
            if not left:
                raise
        else:
            return


def _run(command: Sequence[str], text: str) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise FirewallError(f"there is no {command[0]} on this host", hint=_HINT) from None
    except subprocess.TimeoutExpired:
        raise FirewallError(f"{command[0]} did not end within {_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise FirewallError(f"{command[0]}: {done.stderr.strip()}", hint=_HINT)
    return done.stdout
