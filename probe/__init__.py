"""stream-probe: a synthetic monitor for live streaming."""
