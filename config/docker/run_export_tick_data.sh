#!/usr/bin/env bash
# The replaced wrapper by its old name: exports everything, with the options that it took; .env gives the database. Same as
#   ./run_pipeline.sh ExportAll [--format jsonl] [--resume] [--include-markets-without-ticks] ...
exec "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../run_pipeline.sh" ExportAll "$@"
