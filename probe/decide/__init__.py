"""What a gate sets going: actions outside, each once for a change; and what Prometheus says where a gate asks it."""
