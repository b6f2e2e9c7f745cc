"""Data quality by vehicle and day, counted from what the sinks are given; docs/lake.md says what each figure means."""
