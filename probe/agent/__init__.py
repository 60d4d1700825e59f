"""The regional agent: schedule, workers, HTTP service; runs for months and survives its own dependencies."""
