"""Loads every task and the configuration: Luigi knows the tasks whose classes are loaded."""

import importlib

import tasks
from tasks.workflow.configuration import load_configuration
from tasks.workflow.run_worker import use_run_worker

for module in sorted({*tasks.PUBLIC.values()}):
    importlib.import_module(module)
load_configuration()
use_run_worker()
