"""The command line: the only printer, and where verdicts become exit codes."""

from probe.cli.early import prepare


def main() -> None:
    """Entry point of the console command. Signals and streams are seen to before the rest is even imported."""
    prepare()
    from probe.cli.app import main as work

    work()


__all__ = ["main"]
