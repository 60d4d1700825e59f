"""Foreign software to stand before the probe: each module runs one, on loopback, and ends it by its process id."""
