#!/usr/bin/env bash
# A wrapper with the name of an earlier script: exports everything, with the same options; the database is set in .env. The same as
#   ./run_pipeline.sh ExportAll [--format jsonl] [--resume] [--include-markets-without-ticks] ...
exec "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../run_pipeline.sh" ExportAll "$@"
