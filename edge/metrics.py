"""The agent's status as Prometheus metrics. Pure: what is said follows from the status alone."""

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.health import Status
from edge.sources.channel import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# name, the status's field, help; in the order of the pipeline
COUNTERS = (
    ("frames", "frames", "Frames read"),
    ("frames_unknown", "frames_unknown", "Frames whose identifier no DBC has"),
    ("ticks", "ticks", "Snapshots taken, one a second"),
    ("samples", "samples", "Valid values recorded"),
    ("findings", "findings", "Findings raised"),
    ("batches_recorded", "batches_recorded", "Batches in custody since the start, an earlier run's included"),
    ("batches_receipted", "batches_receipted", "Batches that the cloud has answered for"),
    ("batches_quarantined", "batches_quarantined", "Batches that the cloud has set aside"),
    ("batches_refused", "batches_refused", "Batches that the cloud has refused"),
    ("batches_lost", "batches_lost", "Batches that gaps stand for"),
    ("gaps", "gaps", "Gaps recorded"),
    ("receipts_forged", "receipts_forged", "Receipts whose tag was wrong"),
    ("sealed_bytes", "bytes_sealed", "Bytes of sealed batches of rows"),
)
GAUGES = (
    ("signals", "signals", "Signals in the schema"),
    ("signals_seen", "signals_seen", "Signals that a frame has carried"),
    ("outbox_bytes", "outbox_bytes", "What the outbox takes on the flash"),
    ("outbox_limit_bytes", "outbox_limit_bytes", "What the outbox may take on the flash"),
    ("in_flight", "in_flight", "Batches sent and without a receipt yet"),
    ("connected", "connected", "1 while the broker is there"),
    ("certificate_days", "certificate_days", "Days that the vehicle's certificate is still good for, by its own clock"),
    ("clock_offset_seconds", "clock_offset_s", "The system's clock less the axis of the ticks: how far it was set since the start"),
)
CHANNEL_COUNTERS = (
    ("channel_frames", "frames", "Frames of a bus"),
    ("channel_frames_dropped", "frames_dropped", "Frames of a bus lost because the agent was late: the kernel's count"),
    ("channel_frames_damaged", "frames_damaged", "What came from a bus and is no frame"),
    ("channel_error_frames", "error_frames", "Error frames of a bus"),
    ("channel_bus_offs", "bus_offs", "How often a bus's controller went bus-off"),
    ("channel_downs", "downs", "How often a bus's interface went down"),
)


class StatusMetrics(Collector):
    """Every metric of a status, its name beginning with `cansight_edge_`; counters end in `_total`."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        for name, attribute, words in COUNTERS:
            yield CounterMetricFamily(f"cansight_edge_{name}", words, value=getattr(status, attribute))
        for name, attribute, words in GAUGES:
            yield GaugeMetricFamily(f"cansight_edge_{name}", words, value=float(getattr(status, attribute)))
        for name, attribute, words in CHANNEL_COUNTERS:
            counter = CounterMetricFamily(f"cansight_edge_{name}", words, labels=["channel"])
            for channel, said in status.channels.items():
                counter.add_metric([channel], getattr(said, attribute))
            yield counter
        awake = GaugeMetricFamily("cansight_edge_channel_awake", "1 while frames come on a bus", labels=["channel"])
        for channel, said in status.channels.items():
            awake.add_metric([channel], float(said.state is State.AWAKE))
        yield awake
        about = GaugeMetricFamily("cansight_edge_info", "Always 1; what runs is in the labels", labels=["version", "schema", "packs"])
        about.add_metric([status.agent, status.schema, ",".join(status.packs)], 1.0)
        yield about


def exposition(status: Status) -> bytes:
    """Prometheus' text format, version 0.0.4."""
    return generate_latest(StatusMetrics(status))
