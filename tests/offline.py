"""Refuse every network but the loopback, in this process: `refuse_network()`."""

from __future__ import annotations

import ipaddress
import socket


class NetworkRefused(OSError):
    "A test tried to leave the machine."


def is_local(host: object) -> bool:
    "May tests talk to this host?"
    name = str(host or "localhost").partition("%")[0].strip("[]")
    if name in ("localhost", "ip6-localhost") or name.endswith(".localhost") or name == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_literal(host: object) -> bool:
    "An address is resolved without asking anybody."
    try:
        ipaddress.ip_address(str(host).partition("%")[0].strip("[]"))
    except ValueError:
        return False
    return True


def refuse_network() -> None:
    "From here on a connection to anything but the loopback raises, and no other name is looked up."
    if getattr(socket, "lightbulb_refuses", False): return

    def guarded(original):
        def call(self, *arguments):
            address = arguments[-1]
            if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple) and not is_local(address[0]):
                raise NetworkRefused(f"tests may reach the loopback only, not {address[0]}")
            return original(self, *arguments)

        return call

    def look_up(host, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host
        numeric = str(name or "").replace(".", "").replace("x", "").isalnum() and str(name)[:1].isdigit()  # 0x7f.1 and its kin
        if not (is_local(name) or is_literal(name) or numeric):
            raise socket.gaierror(socket.EAI_NONAME, f"tests look up no names on the network, not even {name}")
        return original_look_up(host, *arguments, **options)

    original_look_up = socket.getaddrinfo
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
    socket.getaddrinfo = look_up
    socket.lightbulb_refuses = True  # type: ignore[attr-defined]
