"""What stands in deploy/, as far as it can be checked without a container engine, a cluster or systemd as init."""
