// How long a batch's last tick took to be received, by vehicle, in the last 24 h: median, 99th percentile and greatest, ms.
data = from(bucket: $bucket)
  |> range(start: -24h)
  |> filter(fn: (r) => r._measurement == "quality" and r._field == "latency_ms")
  |> group(columns: ["vehicle"])

union(tables: [
  data |> quantile(q: 0.5) |> set(key: "of", value: "p50"),
  data |> quantile(q: 0.99) |> set(key: "of", value: "p99"),
  data |> max() |> drop(columns: ["_time", "class", "bus", "model"]) |> set(key: "of", value: "greatest"),
])
  |> pivot(rowKey: ["vehicle"], columnKey: ["of"], valueColumn: "_value")
