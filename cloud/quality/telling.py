"""A fleet's data quality in a few numbers."""

from cloud.lake.folders import DAY_MS
from cloud.quality.tables import FleetDay, QualityTables

__all__ = ["completeness", "coverage", "fleet_now", "upload"]


def fleet_now(tables: QualityTables, now_ms: int) -> dict[str, float | None]:
    """Today (UTC), as far as it goes. Blocks."""
    today = now_ms // DAY_MS
    found = tables.fleet(today, today)
    if not found:
        return {}
    day = found[-1]
    return {"vehicles": float(day.vehicles), "coverage": coverage(day), "completeness": completeness(day), "upload": upload(day)}


def coverage(day: FleetDay) -> float | None:
    """Of the fleet's vehicles, those that sent ticks that day."""
    return day.vehicles / day.known if day.known else None


def completeness(day: FleetDay) -> float | None:
    """Of the ticks there should be, those that are there."""
    return day.seen / (day.seen + day.missing) if day.seen else None


def upload(day: FleetDay) -> float | None:
    """Of the batches recorded, those that were here within a day."""
    return 1 - day.failed / day.recorded if day.recorded else None
