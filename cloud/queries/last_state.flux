// Last state of a vehicle: the newest valid value of each signal within the last hour.
// $vehicle: text, a vehicle's id
from(bucket: $bucket)
  |> range(start: -1h)
  |> filter(fn: (r) => r._measurement == "signals" and r.vehicle == $vehicle)
  |> last()
  |> group()
  |> keep(columns: ["_time", "bus", "_field", "_value"])
  |> sort(columns: ["bus", "_field"])
