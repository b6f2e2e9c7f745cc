// The vehicles with the most findings raised in the last 7 days.
// $number: number, how many vehicles
from(bucket: $bucket)
  |> range(start: -7d)
  |> filter(fn: (r) => r._measurement == "findings" and r._field == "score" and r.state == "active")
  |> group(columns: ["vehicle"])
  |> count()
  |> group()
  |> rename(columns: {_value: "findings"})
  |> sort(columns: ["findings"], desc: true)
  |> limit(n: $number)
