"""What is known of UTC in this boot of the computer: which axis ticks run on, and what places that axis on UTC.

A telematics unit wakes up in 1970, a day ahead, or where it went to sleep, and learns the time minutes or days later, or never. So ticks
run on an axis that only passes (the boot clock), an announcement says what places it on UTC only when that is known, and a clock message
says it when it is learnt. All runs of the agent within one boot share the axis: what a run recorded before the time was known, the next
one can still place.

The rules, for what the computer says the time is:

- The kernel knows whether somebody keeps its clock (STA_UNSYNC, adjtimex(2); chrony, ntpd and systemd-timesyncd clear it). Such a clock is
  relied on.
- One that nobody keeps is relied on only where the kernel's clock was never kept on this vehicle, and from the day on that the vehicle's
  certificate was issued: where a time service runs, an unkept clock is one that it has not reached yet.
- What ticks are placed by changes only when a clock that is relied on is set by more than 2.5 s: a leap second moves nothing, so ticks go
  on evenly. New streams begin then. What was sealed before stays where it was.
- Two placings of a boot never put ticks on the same millisecond, whatever the clock was set to: a store would overwrite one with the other.
"""

import ctypes
import hashlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from edge.files import replace_file
from edge.sources.clock import NS_PER_MS, Instant
from wire.messages import Clock

CLOCK_FILE = "clock.json"
KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIME_ERROR = 5  # adjtimex(2): the clock is not kept
TIMEX_BYTES = 512  # struct timex has 208

EARLIEST_MS = 1_704_067_200_000  # 2024: no clock that says less is right
SETTLED_MS = 2_500  # two leap seconds, and what reading takes
UNKEPT_MS = 100  # a first placing was by a clock that nobody kept, so the first kept one may say better
AGAIN_MS = 10_000  # a clock that is set again and again makes no more streams than one in ten seconds
TICK_MS = 1_000
MOST_SHIFTS = 500  # of a boot; with more, phases of a tick would run out

Trust = Literal["auto", "kernel", "system"]

log = logging.getLogger(__name__)


class BootClock(msgspec.Struct, forbid_unknown_fields=True):
    """Of one boot. The file is `clock.json` of the state folder.

    boot: the kernel's id of it. offset_ns: axis = CLOCK_BOOTTIME + offset. shifts_ms: what was added to the axis to get UTC, the last one
    is in use; empty: UTC is not known. kept: the last was by a clock that the kernel says is kept. ever_kept: on this vehicle, ever.
    """

    boot: str
    offset_ns: int
    shifts_ms: list[int] = msgspec.field(default_factory=list)
    kept: bool = False
    ever_kept: bool = False

    @property
    def axis_id(self) -> bytes:
        """16 bytes, the `boot_id` of announcements: another one for another axis, even should the file be lost within a boot."""
        return hashlib.sha256(b"cansight boot 1" + self.boot.encode() + self.offset_ns.to_bytes(16, "big", signed=True)).digest()[:16]

    def clock(self, axis_ms: int) -> Clock | None:
        """What places the axis on UTC, said at an instant of it; None: not known."""
        if not self.shifts_ms:
            return None
        return Clock(boot_ms=axis_ms, utc_ms=axis_ms + self.shifts_ms[-1], source="system")


@dataclass(slots=True)
class Policy:
    """The rules above, pure. earliest_ms: UTC from which on an unkept clock may be right."""

    boot: BootClock
    trust: Trust = "auto"
    earliest_ms: int = EARLIEST_MS
    _changed_ms: int | None = None

    def judge(self, now: Instant, kept: bool) -> Clock | None:
        """The new placing, where there is one. kept: the kernel says that somebody keeps its clock. Changes `boot`."""
        boot = self.boot
        boot.ever_kept |= kept
        if not self._relied_on(now, kept):
            return None
        axis_ns = now.boot_ns + boot.offset_ns
        axis_ms = axis_ns // NS_PER_MS
        shift_ms = round((now.real_ns - axis_ns) / NS_PER_MS)
        if boot.shifts_ms:
            most_ms = UNKEPT_MS if kept and not boot.kept else SETTLED_MS
            if abs(shift_ms - boot.shifts_ms[-1]) <= most_ms:
                boot.kept |= kept
                return None
            again = self._changed_ms is not None and axis_ms - self._changed_ms < AGAIN_MS
            if again or len(boot.shifts_ms) >= MOST_SHIFTS:
                return None
        self._changed_ms = axis_ms
        boot.shifts_ms.append(_apart(shift_ms, boot.shifts_ms))
        boot.kept = kept
        return boot.clock(axis_ms)

    def _relied_on(self, now: Instant, kept: bool) -> bool:
        if kept:
            return True
        if self.trust == "kernel" or (self.trust == "auto" and self.boot.ever_kept):
            return False
        return now.real_ns // NS_PER_MS >= self.earliest_ms


def _apart(shift_ms: int, others: list[int]) -> int:
    """The shift, or a few milliseconds more: ticks are whole seconds of the axis, so two shifts of different phase share no instant."""
    while any(shift_ms != other and (shift_ms - other) % TICK_MS == 0 for other in others):
        shift_ms += 1
    return shift_ms


class BootClockFile:
    """The policy with its file. A file that is damaged or cannot be written costs what an earlier run of this boot did not know."""

    def __init__(
        self,
        state: Path,
        trust: Trust,
        earliest_ms: int,
        instant: Callable[[], Instant],
        *,
        kept: Callable[[], bool] | None = None,
        boot: str | None = None,
    ) -> None:
        """instant, kept, boot: the computer's clocks, whether the kernel says they are kept, and its boot's id; injected by tests."""
        self._path = state / CLOCK_FILE
        self._trust: Trust = trust
        self._earliest_ms = max(earliest_ms, EARLIEST_MS)
        self._instant = instant
        self._kept = kernel_keeps_time if kept is None else kept
        self._boot = boot
        self._policy: Policy | None = None
        self._written = b""
        self._failed = False

    def open(self) -> BootClock:
        """This boot's axis: the one of an earlier run, or one that is UTC as the computer has it now. Judges the clock once."""
        now = self._instant()
        boot = self._boot if self._boot is not None else _kernel_boot_id()
        found = self._read()
        if found is None or found.boot != boot:
            found = BootClock(boot, now.real_ns - now.boot_ns, ever_kept=found is not None and found.ever_kept)
        self._policy = Policy(found, self._trust, self._earliest_ms)
        if self.look() is None and not found.shifts_ms:
            log.warning("UTC is not known yet: %s. Ticks are recorded all the same, and placed when it is", self._why(now))
        return found

    def look(self) -> Clock | None:
        """The new placing, where there is one, durable. Called about once a second."""
        assert self._policy is not None, "open comes first"
        known = bool(self._policy.boot.shifts_ms)
        now = self._instant()
        news = self._policy.judge(now, self._kept())
        self._write(msgspec.json.encode(self._policy.boot))
        if news is not None and known:
            log.warning("ticks are placed on UTC anew, %.3f s from before: the clock was set", _moved_ms(self._policy.boot) / 1000)
        return news

    def _why(self, now: Instant) -> str:
        if now.real_ns // NS_PER_MS < self._earliest_ms:
            return "the clock says a time before this vehicle's certificate was issued"
        return "the kernel says that nobody keeps the clock (see clock.trust)"

    def _read(self) -> BootClock | None:
        try:
            self._written = self._path.read_bytes()
            return msgspec.json.decode(self._written, type=BootClock)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # msgspec's errors, UnicodeDecodeError
            log.warning("%s: cannot be read (%s); this boot gets a new time axis", self._path, error)
            return None

    def _write(self, data: bytes) -> None:
        if data == self._written:
            return
        try:
            replace_file(self._path, data, durable=True)
            self._written, self._failed = data, False
        except OSError as error:
            if not self._failed:
                log.error("%s: cannot be written: %s", self._path, error.strerror)
            self._failed = True


def _moved_ms(boot: BootClock) -> int:
    return boot.shifts_ms[-1] - boot.shifts_ms[-2]


def _kernel_boot_id() -> str:
    try:
        return KERNEL_BOOT_ID.read_text("ascii").strip()
    except OSError:
        return str(uuid.uuid4())  # a kernel without /proc: each run has an axis of its own


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # makes classes: a fifth of an idle agent's processor time, when it was made at each look


def kernel_keeps_time() -> bool:
    """Whether somebody keeps the kernel's clock: adjtimex(2) without modes, which needs no privilege. False where it may not be called."""
    answer: int = _libc().adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    return answer not in (-1, TIME_ERROR)
