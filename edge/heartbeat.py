"""The status message that the cloud gets now and then: what runs, how it does, and that it runs at all."""

from edge.health import Status
from edge.sources.channel import State
from wire.messages import StatusMessage

COUNTERS = (
    *("frames", "frames_unknown", "signals", "signals_seen", "ticks", "samples", "findings", "gaps", "bytes_sealed"),
    *("batches_recorded", "batches_receipted", "batches_quarantined", "batches_refused", "batches_lost", "receipts_forged"),
    *("outbox_bytes", "outbox_limit_bytes", "in_flight", "clock_offset_s", "certificate_days"),
)
CHANNEL_COUNTERS = ("frames", "frames_dropped", "frames_damaged", "error_frames", "bus_offs", "downs")
MAX_PACKS, MAX_REFUSED, MAX_SHADOW, MAX_CHANNELS = 32, 8, 4, 16  # a message has room for so many
MAX_LINE = 200  # characters
AWAY_S = 3600.0  # between two while nobody hears them


def beat_pause_s(heartbeat_s: float, *, connected: bool) -> float:
    """How long after one message the next is due. One a minute for weeks would push findings out of the tenth of the outbox they share."""
    return heartbeat_s if connected else max(heartbeat_s, AWAY_S)


def heartbeat(status: Status, tick_ms: int, *, stopping: bool = False) -> StatusMessage:
    """The status as a message. tick_ms: the newest tick's time; `state` is running, bus_asleep (every bus is) or stopping."""
    channels = list(status.channels.items())[:MAX_CHANNELS]
    counters = {name: float(getattr(status, name)) for name in COUNTERS}
    counters |= {f"{channel}.{name}": float(getattr(said, name)) for channel, said in channels for name in CHANNEL_COUNTERS}
    asleep = bool(channels) and all(said.state is State.ASLEEP for _, said in channels)
    facts = {"agent": status.agent, "schema": status.schema}
    facts |= {f"pack.{number}": pack for number, pack in enumerate(status.packs[:MAX_PACKS])}
    facts |= {f"pack_refused.{number}": line[:MAX_LINE] for number, line in enumerate(status.packs_refused[:MAX_REFUSED])}
    facts |= {f"pack_shadow.{number}": line[:MAX_LINE] for number, line in enumerate(status.packs_shadow[:MAX_SHADOW])}
    if status.packs_relearning:
        facts["packs_relearning"] = ", ".join(line.partition(":")[0] for line in status.packs_relearning)[:MAX_LINE]
    facts |= {f"channel.{channel}": str(said.state) for channel, said in channels}
    return StatusMessage(
        tick_ms=tick_ms,
        state="stopping" if stopping else "bus_asleep" if asleep else "running",
        counters=counters,
        facts=facts,
    )
