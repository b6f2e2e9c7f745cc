"""The cloud's counters as Prometheus metrics. Pure: a function of what `Cloud.stats` says."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = (
    ("landed", "Batches made durable in the landing log"),
    ("duplicates", "Batches that had landed before"),
    ("quarantined", "Batches set aside with a reason"),
    ("refused", "Batches refused"),
    ("receipts", "Receipts sent"),
    ("requests", "Announcements asked for"),
    ("findings", "Findings landed"),
    ("unknown", "Messages of streams whose announcement was not there"),
    ("replayed", "Messages released from the quarantine"),
)
GAUGES = (
    ("revoked", "Certificates on the revocation list that is read"),
    ("held", "Messages in the quarantine"),
    ("vehicles", "Vehicles heard since the start"),
    ("connected", "1 while the broker is there"),
    ("waiting", "Messages that wait to be landed"),
)
QUALITY = (
    ("vehicles", "Vehicles that sent ticks today (UTC)"),
    ("coverage", "Of the vehicles of the last thirty days, the share that sent ticks today"),
    ("completeness", "Of today's ticks there should be, the share that is there"),
    ("upload", "Of today's batches, the share that was not dropped and came within a day"),
)


class CloudMetrics(Collector):
    """Every metric, its name beginning with `cansight_cloud_`; counters end in `_total` and run since the process's start."""

    def __init__(self, stats: Mapping[str, Any]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        for name, words in COUNTERS:
            yield CounterMetricFamily(f"cansight_cloud_{name}", words, value=float(stats[name]))
        for name, words in (("landing", "1 while nothing can be landed"), ("database", "1 while the tables do not answer")):
            yield GaugeMetricFamily(f"cansight_cloud_{name}_away", words, value=float(bool(stats[f"{name}_error"])))
        lost = sum(last - first + 1 for first, last in stats["landing_gaps"])
        yield CounterMetricFamily(
            "cansight_cloud_landing_damaged", "Records of the landing log that were lost to damage", value=float(lost)
        )
        for name, words in GAUGES:
            yield GaugeMetricFamily(f"cansight_cloud_{name}", words, value=float(stats[name]))
        delay = GaugeMetricFamily(
            "cansight_cloud_delay_seconds",
            "From a frame on the bus to a query that returns it, of the last ten minutes",
            labels=["quantile"],
        )
        recent = stats["delays"]["recent"]
        for quantile, name in (("0.5", "p50_s"), ("0.99", "p99_s"), ("1", "greatest_s")):
            if recent[name] is not None:
                delay.add_metric([quantile], recent[name])
        yield delay
        quality = stats.get("quality", {})
        for name, words in QUALITY:
            if quality.get(name) is not None:
                yield GaugeMetricFamily(f"cansight_cloud_quality_{name}", words, value=quality[name])
        lake = stats.get("lake", {})
        yield GaugeMetricFamily(
            "cansight_cloud_lake_fresh_files", "Files of the lake that wait to be compacted", value=lake.get("fresh_files", 0)
        )
        yield GaugeMetricFamily("cansight_cloud_lake_away", "1 where the last compaction failed", value=float(bool(lake.get("error"))))
        refusals = CounterMetricFamily("cansight_cloud_refusals", "What was refused or set aside, by kind", labels=["kind"])
        for kind, number in sorted(stats["refusals"].items()):
            refusals.add_metric([kind], number)
        yield refusals
        behind = GaugeMetricFamily("cansight_cloud_sink_behind", "Landed messages that a sink has not taken", labels=["sink"])
        away = GaugeMetricFamily("cansight_cloud_sink_away", "1 while a sink is away", labels=["sink"])
        unreadable = CounterMetricFamily(
            "cansight_cloud_sink_unreadable", "Landed messages that could not be opened and are in the quarantine", labels=["sink"]
        )
        for name, sink in stats["sinks"].items():
            behind.add_metric([name], sink["behind"])
            away.add_metric([name], float(bool(sink["error"])))
            unreadable.add_metric([name], sink["unreadable"])
        yield from (behind, away, unreadable)


def exposition(stats: Mapping[str, Any]) -> bytes:
    """Prometheus' text format, version 0.0.4."""
    return generate_latest(CloudMetrics(stats))
