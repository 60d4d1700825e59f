"""The agent's HTTP service: metrics, probes on demand, gates, runs and their reports, health, reload."""
