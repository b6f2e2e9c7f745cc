"""`cansight sim replay` onto real virtual buses: what was in the log is on the bus, in order; what is no virtual bus is refused."""

import errno
import fcntl
import json
import os
import select
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vcan import PATIENCE_S, ip, set_up, until

from cansight.main import main
from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, ERR_FLAG, RTR_FLAG
from simulator.can_links import can_links, find_link
from simulator.errors import ReplayError
from simulator.replay_routes import Target
from simulator.replay_sinks import is_virtual, make_sink

FD = CANFD_BRS | CANFD_FDF  # the latter is the kernel's
CAN_RAW_ERR_FILTER = 2  # <linux/can/raw.h>
SO_RCVBUFFORCE = 33
FRAMES = 900  # the line's buffer and the interface's queue hold 200
N_SLCAN = 17  # <linux/tty.h>

Frame = tuple[int, bytes, int]  # identifier with flags, payload, flags of CAN FD or -1


class Ear:
    """Takes every frame of a bus, error frames too, in a thread."""

    def __init__(self, bus: str) -> None:
        self.frames: list[Frame] = []
        self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        self._socket.setsockopt(socket.SOL_CAN_RAW, CAN_RAW_ERR_FILTER, 0x1FFF_FFFF)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self._socket.bind((bus,))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Ear":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                raw = self._socket.recv(72)
            except TimeoutError:
                continue
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue
                raise
            identifier, length, flags = struct.unpack_from("=IBB", raw)
            self.frames.append((identifier, raw[8 : 8 + length], flags if len(raw) == 72 else -1))


def replay(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["sim", "replay", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_three_channels_arrive_whole_and_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected: dict[str, list[Frame]] = {"can0": [], "can1": [], "can2": []}
    lines = []
    for number in range(FRAMES):
        channel = f"can{number % 3}"
        if channel == "can2":
            payload = number.to_bytes(4) * (2 + number % 2 * 14)  # 8 and 64 bytes
            identifier, text = number % 2048, f"{number % 2048:03X}" + ("##1" if len(payload) > 8 else "#") + payload.hex()
        elif number % 4:
            identifier, payload, text = number % 2048, number.to_bytes(8), f"{number % 2048:03X}#{number:016X}"
        else:
            identifier, payload, text = EFF_FLAG | number << 8, number.to_bytes(3), f"{number << 8:08X}#{number:06X}"
        lines.append(f"({1000 + number * 0.0005:.6f}) {channel} {text}\n")
        expected[channel].append((identifier, payload, FD if len(payload) > 8 else -1))
    log = tmp_path / "log"
    log.write_text("".join(lines))
    ip("link", "add", "dev", "vcan2", "type", "vcan")
    ip("link", "set", "vcan2", "mtu", "72", "up")
    to = [word for number in range(3) for word in ("--to", f"can{number}=socketcan:vcan{number}")]
    try:
        for speed in (["--fast"], ["--speed", "2"]):
            with Ear("vcan0") as zero, Ear("vcan1") as one, Ear("vcan2") as two:
                code, out, err = replay(log, *to, *speed, "--json", capsys=capsys)
                assert (code, err) == (0, "")
                until(lambda: len(zero.frames) + len(one.frames) + len(two.frames) >= FRAMES, "the frames")
            assert {"can0": zero.frames, "can1": one.frames, "can2": two.frames} == expected
            found = json.loads(out)
            assert found["buses"] == {f"socketcan:vcan{number}": FRAMES // 3 for number in range(3)}
            assert found["queue_full"] == 0
    finally:
        ip("link", "del", "vcan2")


def test_every_kind_of_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    words = ["7FF#", "000#11", "1FFFFFFF#0011223344556677", "123#R4", "20000080#0000000000000000", "00000001##1112233445566778899AABBCC"]
    words += ["124##0AABB", "125##1", "126##211", "127##0112233445566778899AABBCC"]  # short FD frames; one without the second bit rate
    log.write_text("".join(f"(1.000000) can0 {word}\n" for word in words))
    frames: list[Frame] = [
        (0x7FF, b"", -1),
        (0x000, b"\x11", -1),
        (EFF_FLAG | 0x1FFF_FFFF, bytes.fromhex("0011223344556677"), -1),
        (RTR_FLAG | 0x123, bytes(4), -1),
        (ERR_FLAG | 0x80, bytes(8), -1),
        (EFF_FLAG | 1, bytes.fromhex("112233445566778899AABBCC"), FD),
        (0x124, b"\xaa\xbb", CANFD_FDF),
        (0x125, b"", FD),
        (0x126, b"\x11", CANFD_FDF | CANFD_ESI),
        (0x127, bytes.fromhex("112233445566778899AABBCC"), CANFD_FDF),
    ]
    for options, expected in (([], [frame for frame in frames if not frame[0] & ERR_FLAG]), (["--error-frames"], frames)):
        with Ear("vcan0") as ear:
            assert replay(log, "--to", "socketcan:vcan0", "--fast", *options, capsys=capsys)[0] == 0
            until(lambda: len(ear.frames) >= len(expected), "the frames")  # noqa: B023
        assert ear.frames == expected


def test_fd_frames_for_a_bus_without_fd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text("(1.000000) can0 001##1112233445566778899AABBCC\n")
    set_up("vcan0", False)
    code, _, err = replay(log, "--to", "socketcan:vcan0", capsys=capsys)
    assert (code, err) == (2, "cansight: --to socketcan:vcan0: the interface is down: ip link set vcan0 up\n")
    ip("link", "set", "vcan0", "mtu", "16", "up")
    try:
        code, _, err = replay(log, "--to", "socketcan:vcan0", capsys=capsys)
    finally:
        ip("link", "set", "vcan0", "down")
        ip("link", "set", "vcan0", "mtu", "72", "up")
    assert code == 1
    assert "the log has CAN FD frames and the interface takes none: ip link set vcan0 mtu 72" in err


def test_a_bus_that_goes_away_ends_it_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"({1000 + number * 0.01:.6f}) can0 001#{number:016X}\n" for number in range(6000)))
    with Ear("vcan0") as ear:
        down = threading.Thread(target=lambda: (until(lambda: len(ear.frames) > 20, "frames"), set_up("vcan0", False)))  # type: ignore[func-returns-value]
        down.start()
        code, _, err = replay(log, "--to", "socketcan:vcan0", capsys=capsys)
        down.join()
    set_up("vcan0", True)
    assert (code, err) == (1, "cansight: socketcan:vcan0: Network is down\n")


def test_what_the_kernel_calls_its_interfaces() -> None:
    ip("link", "add", "dev", "can7", "type", "vcan")
    ip("link", "add", "dev", "vx0", "type", "vxcan")  # its other end becomes vxcan0
    try:
        found = {link.name: link for link in can_links()}
        assert {"vcan0", "vcan1", "can7", "vx0", "vxcan0"} <= set(found)
        assert (found["can7"].kind, found["vxcan0"].kind, found["vcan0"].mtu) == ("vcan", "vxcan", 72)
        assert all(is_virtual(Target("socketcan", name)) for name in ("vcan0", "can7", "vx0", "vxcan0"))  # the name says nothing
        with pytest.raises(ReplayError, match="lo is no CAN interface; the CAN interfaces here: can7, vcan0"):
            make_sink(Target("socketcan", "lo"))
        with pytest.raises(ReplayError, match="the interface is down: ip link set can7 up"):
            make_sink(Target("socketcan", "can7"))
    finally:
        ip("link", "del", "can7")
        ip("link", "del", "vx0")


@contextmanager
def serial_adapter(name: str) -> Iterator[int]:
    """A CAN adapter on a serial line (slcan), whose other end is a pseudo terminal; gives that end. The interface is called `name`."""
    controller, line = os.openpty()
    tty.setraw(line)
    before = {link.name for link in can_links()}
    fcntl.ioctl(line, termios.TIOCSETD, struct.pack("i", N_SLCAN))
    made = ({link.name for link in can_links()} - before).pop()
    try:
        ip("link", "set", made, "name", name)
        ip("link", "set", name, "up")
        yield controller
    finally:
        os.close(line)
        os.close(controller)


def slowly(controller: int, frames: int) -> Iterator[bytes]:
    """What an adapter is told until it has so many frames; it listens when its line's buffer is full."""
    time.sleep(0.2)
    ready = select.poll()
    ready.register(controller, select.POLLIN)
    left = frames
    while left:
        if not ready.poll(1000 * PATIENCE_S):
            return
        said = os.read(controller, 4096)
        left -= said.count(b"\r")
        yield said


def test_an_adapter_is_refused_whatever_its_name_and_on_a_bench_its_full_queue_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"(1000.{number:06}) can0 123#{number:016X}\n" for number in range(FRAMES)))
    with serial_adapter("vcan9") as controller:
        link = find_link("vcan9")
        assert link is not None
        assert (link.is_can, link.is_virtual) == (True, False)
        assert link.kind not in ("vcan", "vxcan")
        code, _, err = replay(log, "--to", "socketcan:vcan9", capsys=capsys)
        assert (code, err.count("\n")) == (2, 1)
        assert "vcan9 is no virtual bus" in err
        assert "add --i-am-on-a-bench" in err

        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.extend(slowly(controller, FRAMES)))
        reader.start()
        code, out, err = replay(log, "--to", "socketcan:vcan9", "--fast", "--json", "--i-am-on-a-bench", capsys=capsys)
        reader.join()
    assert (code, err) == (0, "")
    assert b"".join(said).split(b"\r")[-FRAMES - 1 :] == [*(b"t1238%016X" % number for number in range(FRAMES)), b""]
    found = json.loads(out)
    assert found["frames"] == FRAMES
    assert found["queue_full"] > 0
