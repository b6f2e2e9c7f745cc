// A signal of a vehicle over time: least, mean and greatest of each minute. In the databases of minutes and hours the fields .min and .max say it.
// $vehicle: text, a vehicle's id
// $signal: name, Message.Signal
// $since: duration, like 24h
data = from(bucket: $bucket)
  |> range(start: -$since)
  |> filter(fn: (r) => r._measurement == "signals" and r.vehicle == $vehicle and r._field == $signal)
  |> group(columns: ["_field"])

union(tables: [
  data |> aggregateWindow(every: 1m, fn: min, createEmpty: false, timeSrc: "_start") |> set(key: "_field", value: "least"),
  data |> aggregateWindow(every: 1m, fn: mean, createEmpty: false, timeSrc: "_start") |> set(key: "_field", value: "mean"),
  data |> aggregateWindow(every: 1m, fn: max, createEmpty: false, timeSrc: "_start") |> set(key: "_field", value: "greatest"),
])
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
