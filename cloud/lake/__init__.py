"""The lake: every vehicle's ticks as Parquet by day and vehicle, beside the time-series store; docs/lake.md."""
