"""Executes one `SchedulerOutput` with torch; the same code on `cpu` and `cuda`."""
