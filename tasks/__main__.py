"""`python -m tasks`, what run_pipeline.sh calls."""

import logging
import sys

from tasks.workflow.preconditions import require_readable_configuration
from tasks.workflow.process_start import tuned_start

if __name__ == "__main__":
    require_readable_configuration()
    with tuned_start():
        from tasks.command_line.front_door import load, main

        load(sys.argv[1:])
    logging.captureWarnings(True)
    main(sys.argv[1:])
