"""What must hold before Luigi is imported: it reads its configuration then, and a broken one gives a traceback."""

import configparser
import os

from tasks.workflow.exit_codes import EXIT_USAGE, stop


def require_readable_configuration() -> None:
    """Stop with one line if the file of LUIGI_CONFIG_PATH cannot be read. (That it exists is checked later.)"""
    own = os.environ.get("LUIGI_CONFIG_PATH")
    if not own or os.environ.get("LUIGI_CONFIG_PARSER", "cfg") != "cfg" or not os.path.exists(own):
        return
    try:
        with open(own, encoding="utf-8") as file:
            configparser.RawConfigParser().read_file(file)
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        what = " ".join(str(error).split())
        stop(
            f"LUIGI_CONFIG_PATH is {own}, which cannot be read: {what}. Correct that file or leave it out.", EXIT_USAGE
        )
