"""luigi.cfg: found from any folder, checked, and completed where Luigi's own default would be a surprise."""

import configparser
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi
import luigi.retcodes  # noqa: F401  (registers [retcode], which luigi.cfg sets)
from luigi.configuration import LuigiConfigParser, get_config
from luigi.task_register import Register

import tasks
from tasks.workflow.exit_codes import EXIT_USAGE, stop

ROOT = Path(__file__).resolve().parents[2]

_SCHEDULER_OPTIONS = ("--scheduler-url", "--scheduler-host", "--scheduler-port")
_SCHEDULER_KEYS = tuple(
    option.removeprefix("--").replace("-", separator)
    for option in (*_SCHEDULER_OPTIONS, *(f"--default-{option[2:]}" for option in _SCHEDULER_OPTIONS))
    for separator in "-_"
)

#: Keys that Luigi reads but does not declare.
_UNDECLARED = {"core": ("rpc_connect_timeout", "rpc_retry_attempts", "rpc_retry_wait", "rpc_log_retries")}


def load_configuration() -> None:
    """Read the project's luigi.cfg, then the operator's own, which overrides it. Stop with one line at an
    unknown key.
    """
    own = os.environ.get("LUIGI_CONFIG_PATH")
    if own and not Path(own).is_file():
        stop(f"LUIGI_CONFIG_PATH is {own}, but there is no such file. Correct it or leave it out.", EXIT_USAGE)
    LuigiConfigParser._config_paths.insert(0, str(ROOT / "luigi.cfg"))
    try:
        config = LuigiConfigParser.instance()
        config.reload()
        _check(config)
    except (configparser.Error, UnicodeDecodeError) as error:
        stop(
            f"Luigi's configuration cannot be read: {' '.join(str(error).split())}. Correct luigi.cfg or the file of"
            " LUIGI_CONFIG_PATH.",
            EXIT_USAGE,
        )
    named = any(argument.split("=")[0] in _SCHEDULER_OPTIONS for argument in sys.argv)
    if not named and not any(config.has_option("core", key) for key in _SCHEDULER_KEYS):
        # by default Luigi waits half a minute per try for a luigid that is not there
        config.set("core", "local_scheduler", "true")
    if not config.has_option("core", "logging_conf_file"):
        config.set("core", "logging_conf_file", str(ROOT / "config" / "logging.cfg"))


def _check(config: LuigiConfigParser) -> None:
    """Refuse sections and keys that nothing reads: Luigi itself would at most warn."""
    if config is not get_config():  # a luigi.toml: Luigi has its own checks there
        return
    for section in config.sections():
        known = _known_keys(section)
        if known is None:
            sections = ", ".join(sorted(name for name in Register.task_names() if name[0].islower()))
            stop(f"luigi.cfg has a section [{section}] that nothing reads. Known are {sections}.", EXIT_USAGE)
        unknown = [key for key in config.options(section) if key.replace("-", "_") not in known]
        if unknown and section != "resources":  # the operator chooses the keys of [resources]
            stop(
                f"luigi.cfg has a key {unknown[0]} in section [{section}] that nothing reads. Known are"
                f" {', '.join(sorted(known))}.",
                EXIT_USAGE,
            )
        for key in config.options(section):
            _check_value(section, key, config.get(section, key), known.get(key.replace("-", "_")))


def _check_value(section: str, key: str, value: str, parameter: luigi.Parameter[Any] | None) -> None:
    if parameter is None:
        return
    try:
        parameter.parse(value)
    except ValueError:
        kind = type(parameter).__name__.removesuffix("Parameter").removeprefix("Optional").lower()
        expected = getattr(parameter, "expected", f"a value of type {kind}")
        stop(
            f"luigi.cfg has {key} = {value} in section [{section}], expected {expected}. Correct it there or"
            " in the file of LUIGI_CONFIG_PATH.",
            EXIT_USAGE,
        )


def _known_keys(section: str) -> Mapping[str, luigi.Parameter[Any] | None] | None:
    """Return the keys that a section can have, with the parameter that reads each; None for an unknown section."""
    if section == "resources":
        return {}
    if section in tasks.PUBLIC:
        importlib.import_module(tasks.PUBLIC[section])
    if section not in Register.task_names():
        return None
    task = Register.get_task_cls(section)
    keys: dict[str, luigi.Parameter[Any] | None] = dict.fromkeys(
        (*getattr(task, "ignore_unconsumed", ()), *_UNDECLARED.get(section, ()))
    )
    for name, parameter in task.get_params():
        keys[name] = parameter
        if parameter._config_path:
            keys[parameter._config_path["name"]] = parameter
    return {key.replace("-", "_"): parameter for key, parameter in keys.items()}
