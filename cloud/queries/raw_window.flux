// The raw window: every tick of a signal of a vehicle from one instant to another, as it was stored; around a ticket, say.
// $vehicle: text, a vehicle's id
// $signal: name, Message.Signal
// $from: time, like 2026-11-23T08:00:00Z
// $to: time, like 2026-11-23T08:05:00Z
from(bucket: $bucket)
  |> range(start: $from, stop: $to)
  |> filter(fn: (r) => r._measurement == "signals" and r.vehicle == $vehicle and r._field == $signal)
  |> keep(columns: ["_time", "_value"])
