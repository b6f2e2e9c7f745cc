"""What the kernel says about a network interface: whether it is CAN at all, and whether hardware is behind it.

Asked by rtnetlink (RFC 3549; <linux/rtnetlink.h>, <linux/if_link.h>), because neither the name nor /sys tells a virtual bus from a real
one: an interface may have any name, and a CAN adapter on a serial line (slcan) has no `device` link in /sys/class/net either. The kind that
the driver registered (IFLA_INFO_KIND) does: `vcan` and `vxcan` have no hardware.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ARPHRD_CAN", "CLASSIC_MTU", "FD_MTU", "VIRTUAL_KINDS", "Link", "can_links", "find_link"]

ARPHRD_CAN = 280  # <linux/if_arp.h>
CLASSIC_MTU, FD_MTU = 16, 72  # sizeof(struct can_frame), sizeof(struct canfd_frame)
VIRTUAL_KINDS = ("vcan", "vxcan")

IFF_UP = 1
NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_GETLINK = 16, 18
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 4, 18, 1
ATTRIBUTE_TYPE = 0x3FFF  # without the flags "nested" and "network byte order"
RECEIVE_BYTES = 1 << 16  # the kernel fills at most 32 kB of a dump at a time


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface, as the kernel has it."""

    name: str
    arp_type: int  # ARPHRD_...
    up: bool
    mtu: int  # largest frame, bytes
    kind: str  # of the driver: vcan, vxcan, can, ...; "" where it registers none
    device: bool  # a device is behind it in /sys

    @property
    def is_can(self) -> bool:
        return self.arp_type == ARPHRD_CAN

    @property
    def is_virtual(self) -> bool:
        """Whether frames sent on it stay in this computer's memory."""
        return self.is_can and self.kind in VIRTUAL_KINDS and not self.device

    @property
    def takes_fd(self) -> bool:
        return self.mtu >= FD_MTU


def find_link(name: str) -> Link | None:
    """The interface of that name; None: there is none. Raises OSError."""
    return next((link for link in _links() if link.name == name), None)


def can_links() -> list[Link]:
    """This computer's CAN interfaces, by name. Raises OSError."""
    return sorted((link for link in _links() if link.is_can), key=lambda link: link.name)


def _links() -> Iterator[Link]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as asked:
        request = struct.pack("=IHHII", 32, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)  # struct nlmsghdr
        asked.send(request + struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0))  # struct ifinfomsg
        while True:
            answer = asked.recv(RECEIVE_BYTES)
            at = 0
            while at < len(answer):
                length, kind = struct.unpack_from("=IH", answer, at)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", answer, at + 16)[0]
                    raise OSError(number or errno.EIO, os.strerror(number or errno.EIO))
                if kind == RTM_NEWLINK:
                    yield _link(answer[at + 16 : at + length])
                at += (length + 3) & ~3


def _link(message: bytes) -> Link:
    """message: struct ifinfomsg and its attributes."""
    arp_type, flags = struct.unpack_from("=2xHxxxxI", message)
    found = dict(_attributes(message[16:]))
    name = found.get(IFLA_IFNAME, b"").partition(b"\0")[0].decode("utf-8", "surrogateescape")
    information = dict(_attributes(found.get(IFLA_LINKINFO, b"")))
    kind = information.get(IFLA_INFO_KIND, b"").partition(b"\0")[0].decode("ascii", "replace")
    mtu = struct.unpack("=I", found[IFLA_MTU])[0] if IFLA_MTU in found else 0
    return Link(name, arp_type, bool(flags & IFF_UP), mtu, kind, Path(f"/sys/class/net/{name}/device").exists())


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each struct rtattr."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & ATTRIBUTE_TYPE, data[at + 4 : at + length]
        at += (length + 3) & ~3
