"""What every command does around its work: log lines on standard error, errors without a traceback."""

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence

import datasets
from transformers.utils import logging as transformers_logging


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command; an error that tells its reader what to mend ends it with status 1 and that text alone.

    Standard output is UTF-8 whatever the terminal is; without a terminal there are no progress bars of short steps.
    `ZEROSHOT_TRACEBACK=1` shows where an error arose.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    logging.getLogger("zeroshot").setLevel(logging.INFO)
    if not sys.stderr.isatty():  # bars of steps that take a second would fill a log file
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has what it wanted, as in `zeroshot predict ... | head -1`; Python would complain when it flushes.
        sys.stdout = None
        sys.exit(1)
    except (ValueError, TypeError, OSError, ImportError) as error:
        ours = not (isinstance(error, ImportError) and error.name)  # a failed import names its module, our words do not
        if os.environ.get("ZEROSHOT_TRACEBACK") or not ours:
            raise
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. A training run goes on from its last checkpoint when the same command is given again.")
