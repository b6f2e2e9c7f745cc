"""A virtual machine with a kernel that has CAN, for tests on a real SocketCAN: this machine's files, its Python, two virtual buses.

QEMU emulates the processor (no /dev/kvm is needed) and runs a Debian kernel (deploy/guest_kernel.sh). A few lines of shell in an initial
file system load the modules, mount this machine's root over 9p, read-only, make vcan0 and vcan1, and run a command in it.
"""

import lzma
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "vcan", "vxcan", "slcan", "can-raw")
MEMORY_MB = 1024
SHARED = "/dev/shm/shared"  # where the command finds `share`

INIT = """#!/bin/busybox sh
b=/bin/busybox
for module in $($b cat /modules/order); do $b insmod /modules/$module || echo "guest: $module cannot be loaded"; done
how=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o ro,cache=loose,$how root /host || echo 'guest: the root cannot be mounted'
$b mount -t proc proc /host/proc
$b mount -t sysfs sys /host/sys
$b mount -t devtmpfs dev /host/dev
$b mkdir -p /host/dev/shm /host/dev/pts
$b mount -t devpts pts /host/dev/pts
$b mount -t tmpfs shm /host/dev/shm
$b mkdir -p /host/dev/shm/home /host/dev/shm/bin /host{shared}
$b cp $b /host/dev/shm/bin/busybox
$b mount -t 9p -o rw,$how share /host{shared} || echo 'guest: the share cannot be mounted'
$b ip link set lo up
for bus in vcan0 vcan1; do $b ip link add dev $bus type vcan; $b ip link set $bus mtu 72 up; done
$b chroot /host /bin/sh {shared}/run.sh
$b sync
$b reboot -f
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended: its exit code, None when it did not end; and what kernel and command said."""

    code: int | None
    console: str


def run(
    qemu: str, busybox: Path, kernel: Path, share: Path, command: Sequence[str], folder: Path, environment: dict[str, str], timeout_s: float
) -> Ended:
    """Boot, run the command in `folder`, with `share` writable at SHARED, and end. kernel: folder of guest_kernel.sh."""
    words = dict(environment) | {
        "TMPDIR": "/dev/shm",
        "HOME": "/dev/shm/home",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": os.environ["PATH"],
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in words.items()]
    lines += [f"cd {shlex.quote(str(folder))}", f"{shlex.join(command)} >{SHARED}/output 2>&1", f"echo $? >{SHARED}/code"]
    (share / "run.sh").write_text("\n".join(lines) + "\n")
    initial, console = share / "initrd", share / "console"
    initial.write_bytes(_initial_files(busybox, kernel / "modules"))
    machine = [
        qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB), "-nodefaults",
        "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{console}", "-kernel", str(kernel / "vmlinuz"),
        "-initrd", str(initial), "-append", "console=ttyS0 quiet panic=-1",
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
        "-fsdev", f"local,id=share,path={share},security_model=none",
        "-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
    ]  # fmt: skip
    with subprocess.Popen(machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    texts = [said.decode(errors="replace"), *(_text(share / name) for name in ("console", "output"))]
    code = _text(share / "code").strip()
    return Ended(int(code) if code else None, "\n".join(filter(None, texts)))


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _initial_files(busybox: Path, modules: Path) -> bytes:
    """The initial file system: busybox, the modules in the order in which they must be loaded, and init."""
    found = {path.name.partition(".")[0].replace("-", "_"): path for path in modules.iterdir()}
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in order or name not in found:  # not a module: built in
            return
        path = found[name]
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        needs = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in needs[1].decode().split(",") if needs else ():
            add(other)
        order[name] = data

    for name in MODULES:
        add(name)
    files: dict[str, tuple[int, bytes]] = dict.fromkeys(("bin", "modules", "host", "dev", "proc"), (stat.S_IFDIR | 493, b""))
    files["bin/busybox"] = stat.S_IFREG | 0o755, busybox.read_bytes()
    files["init"] = stat.S_IFREG | 0o755, INIT.replace("{shared}", SHARED).encode()
    files["modules/order"] = stat.S_IFREG | 0o644, "\n".join(f"{name}.ko" for name in order).encode()
    files |= {f"modules/{name}.ko": (stat.S_IFREG | 0o644, data) for name, data in order.items()}
    return b"".join(_cpio(number, name, *file) for number, (name, file) in enumerate(files.items(), 1)) + _cpio(0, "TRAILER!!!", 0, b"")


def _cpio(number: int, name: str, mode: int, data: bytes) -> bytes:
    """One file of a cpio archive in the "newc" format, which the kernel unpacks (kernel documentation, initramfs buffer format)."""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
