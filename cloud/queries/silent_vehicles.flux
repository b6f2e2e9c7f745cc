// Vehicles that were heard in the last 7 days and not since the start of the current hour.
import "date"

from(bucket: $bucket)
  |> range(start: -7d)
  |> filter(fn: (r) => r._measurement == "quality" and r._field == "ticks")
  |> group(columns: ["vehicle"])
  |> max(column: "_time")
  |> filter(fn: (r) => r._time < date.truncate(t: now(), unit: 1h))
  |> group()
  |> keep(columns: ["vehicle", "_time"])
  |> sort(columns: ["_time"])
