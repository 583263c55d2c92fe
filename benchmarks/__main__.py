"""`python -m benchmarks`: what went wrong is one line on stderr."""

import sys

import click

from benchmarks.command import main

if __name__ == "__main__":
    try:
        main(prog_name="python -m benchmarks", standalone_mode=False)
    except click.ClickException as error:
        print(f"benchmarks: {error.format_message()}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
