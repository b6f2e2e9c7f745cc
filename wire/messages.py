"""What a sealed batch holds. The kind is the first byte of the plaintext, so a broker cannot tell a finding from a status.

Every kind but ROWS is a msgspec struct in MessagePack (as a map), behind one byte that says whether it is compressed.
Decoding validates: unknown fields, wrong types, over-long lists and numbers that are not finite are a FormatError.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from wire.errors import FormatError
from wire.packing import compress, decompress

MAX_MESSAGE_BYTES = 1 << 20  # a finding with a full window is ~10 kB; what claims more is hostile
MAX_SIGNALS = 65_536
WINDOW_TICKS = 120
WINDOW_SIGNALS = 64


class Kind(IntEnum):
    ANNOUNCEMENT = 0
    ROWS = 1
    FINDING = 2
    GAP = 3
    STATUS = 4
    CLOCK = 5


Name = Annotated[str, msgspec.Meta(max_length=256)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
Sentence = Annotated[str, msgspec.Meta(max_length=1000)]
Milliseconds = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]  # exact in every JSON reader and in float64
Id16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Recorded rows of one stream's columns.

    tick_ms: (t,) int64, ms on the boot axis, strictly increasing. raw: (t, m) int64, the DBC's raw integers (uint64 and float
    bit patterns bit-cast). reason: (t, m) uint8, 0 = valid, else why not. raw of a value that is not valid is kept as it is.
    widths: of a baseline only, (2, m) uint8 0..64, the bit widths to expect of a first and of a following delta; see the codec.
    """

    tick_ms: NDArray[np.int64]
    raw: NDArray[np.int64]
    reason: NDArray[np.uint8]
    widths: NDArray[np.uint8] | None = None


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Maps the boot axis to UTC: utc = tick - boot_ms + utc_ms. `log` means the times are a replayed log's own."""

    boot_ms: Milliseconds
    utc_ms: Milliseconds
    source: Literal["log", "system"]


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sequence 0: what is needed to read the stream.

    columns: bitmap over the schema's signals, least significant bit first; the set bits are the columns of Rows, in order.
    baseline: `encode_rows` of one tick without a baseline, or empty when the stream has no rows. clock: None when UTC is not known.
    """

    boot_id: Id16
    clock: Clock | None
    schema_id: Id16
    consent_class: Word
    columns: Annotated[bytes, msgspec.Meta(max_length=MAX_SIGNALS // 8)]
    pack_ids: Annotated[list[Name], msgspec.Meta(max_length=256)]
    campaign_id: Name
    agent: Word
    baseline: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE_BYTES)]


class Contribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One signal's part in a finding; share 0..1 of the score.

    margin: how far, in its unit, the signal is from `expected` on healthy drives, at this operating point; None: not known.
    """

    signal: Name
    unit: Word
    expected: float | None
    seen: float | None
    share: float
    margin: float | None = None

    def __post_init__(self) -> None:
        _finite("contributions", self.expected, self.seen, self.share, self.margin)


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ticks before a finding: values[i][j] is signals[i] at tick_ms[j], None = not valid. The score is the signal "score"."""

    tick_ms: Annotated[list[Milliseconds], msgspec.Meta(max_length=WINDOW_TICKS)]
    signals: Annotated[list[Name], msgspec.Meta(max_length=WINDOW_SIGNALS)]
    values: Annotated[list[Annotated[list[float | None], msgspec.Meta(max_length=WINDOW_TICKS)]], msgspec.Meta(max_length=WINDOW_SIGNALS)]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.signals) or any(len(series) != len(self.tick_ms) for series in self.values):
            raise FormatError("window.values: expected one list per signal, each with one value per tick")
        for series in self.values:
            _finite("window.values", *series)


class FindingMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a detector says. The clearing message carries the id of the raising one.

    repeats: findings of this detector (pack and fault code) since its last message that were raised and not sent: its rate is limited.
    level: `seen` is below ticket level: not confirmed over drives yet. A finding that is confirmed later is sent once more, active, with
    its id and the level `ticket`.
    """

    finding_id: Id16
    state: Literal["active", "cleared"]
    pack_id: Name
    fault_code: Word
    tick_ms: Milliseconds
    since_ms: Milliseconds
    score: float
    threshold: float
    p_value: float | None
    contributions: Annotated[list[Contribution], msgspec.Meta(max_length=WINDOW_SIGNALS)]
    window: Window
    repeats: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0
    level: Literal["seen", "ticket"] = "ticket"

    def __post_init__(self) -> None:
        _finite("finding", self.score, self.threshold, self.p_value)


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Batches of a stream that will never come: sequences first..last, and why."""

    stream: Id16
    first: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
    last: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
    reason: Sentence

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise FormatError("gap.last: expected at least gap.first")


class StatusMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The agent's health at a tick.

    state: running, bus_asleep or stopping. counters and facts (versions, ids) by name.
    """

    tick_ms: Milliseconds
    state: Word
    counters: Annotated[dict[Word, float], msgspec.Meta(max_length=256)]
    facts: Annotated[dict[Word, Name], msgspec.Meta(max_length=64)] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _finite("status.counters", *self.counters.values())


Message = Announcement | FindingMessage | Gap | StatusMessage | Clock

_TYPES: Final[dict[Kind, type[Message]]] = {
    Kind.ANNOUNCEMENT: Announcement,
    Kind.FINDING: FindingMessage,
    Kind.GAP: Gap,
    Kind.STATUS: StatusMessage,
    Kind.CLOCK: Clock,
}
_KINDS: Final[dict[type[Message], Kind]] = {struct: kind for kind, struct in _TYPES.items()}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[Kind, msgspec.msgpack.Decoder[Message]]] = {kind: msgspec.msgpack.Decoder(struct) for kind, struct in _TYPES.items()}


def encode_message(message: Message) -> tuple[Kind, bytes]:
    """The kind and body to seal. What the other side would not accept is refused here: FormatError."""
    kind = _KINDS[type(message)]
    plain = _ENCODER.encode(message)
    _decode(kind, plain)  # the structs are not validated when they are built; a batch that nobody can read must not be sealed
    return kind, compress(plain)


def decode_message(kind: Kind, body: bytes) -> Message:
    """Reads the body of any kind but ROWS; FormatError when it is not exactly that message."""
    if kind not in _DECODERS:
        raise FormatError(f"message kind {int(kind)}: rows are read with decode_rows")
    return _decode(kind, decompress(body, MAX_MESSAGE_BYTES))


def pack_columns(columns: NDArray[np.bool_]) -> bytes:
    """(n,) bool over the schema's signals -> bitmap, least significant bit first."""
    return np.packbits(columns, bitorder="little").tobytes()


def unpack_columns(bitmap: bytes) -> NDArray[np.intp]:
    """Bitmap -> (m,) increasing indices of the schema's signals."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little"))


def _decode(kind: Kind, plain: bytes) -> Message:
    if len(plain) > MAX_MESSAGE_BYTES:
        raise FormatError(f"{kind.name.lower()}: expected at most {MAX_MESSAGE_BYTES} bytes, found {len(plain)}")
    try:
        return _DECODERS[kind].decode(plain)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"{kind.name.lower()}: {str(error).splitlines()[0]}") from None


def _finite(field: str, *values: float | None) -> None:
    if not all(value is None or math.isfinite(value) for value in values):
        raise FormatError(f"{field}: expected finite numbers")
