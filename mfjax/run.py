"""`python -m mfjax.run`, and the console script `mfjax`."""

import sys
import time

BEGAN = time.perf_counter()  # before the imports: they are part of what a user waits for

from mfjax.app.help import help_text  # noqa: E402
from mfjax.app.names import wrong_name  # noqa: E402

ASKING = {"--help", "-h"}  # Hydra's own takes longer, and loads all that the command may need


def main() -> None:
    """Run the command line. Without any argument it shows the help."""
    arguments = sys.argv[1:]
    if not arguments or ASKING & set(arguments):
        print(help_text())
        return
    if message := wrong_name(arguments):  # before all that the command needs is loaded
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)
    from mfjax.app import command

    command.main(BEGAN)


if __name__ == "__main__":
    main()
