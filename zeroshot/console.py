"""What every command does around its work: log lines on standard error, errors without a traceback."""

import logging
import os
import sys
from collections.abc import Callable, Sequence

from transformers.utils import logging as transformers_logging


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command; an error that tells its reader what to mend ends it with status 1 and that text alone.

    `ZEROSHOT_TRACEBACK=1` shows where an error arose.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    logging.getLogger("zeroshot").setLevel(logging.INFO)
    try:
        command(arguments)
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("ZEROSHOT_TRACEBACK"):
            raise
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on where it stopped, where it keeps checkpoints.")
