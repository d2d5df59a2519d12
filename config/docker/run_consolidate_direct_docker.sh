#!/usr/bin/env bash
# A wrapper with the name of an earlier script: one UTC day straight from PostgreSQL, in a container on its network.
#   config/docker/run_consolidate_direct_docker.sh 2026-02-16 [options of ConsolidateDayDirect]
# CSV and report are written to ./data_exports. The database is set in the environment, or in .env in this folder (see config/env.example); only
# its host is netbet-postgres, unless the environment says otherwise. NETBET_NETWORK is its network, TICK_EXPORT_IMAGE the image (see
# config/docker/Dockerfile for how to build it).
set -euo pipefail

if [[ $# -eq 0 || $1 == -* ]]; then
    echo "error: no day given. Use: $0 2026-02-16 [options of ConsolidateDayDirect]" >&2
    exit 2
fi
day=$1
shift
mkdir -p data_exports
settings=(-e POSTGRES_HOST="${POSTGRES_HOST:-netbet-postgres}")
if [[ -f .env ]]; then settings+=(-v "$PWD/.env:/opt/tick-export/.env:ro"); fi
for name in POSTGRES_PORT POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD PGOPTIONS; do
    if [[ -v $name ]]; then settings+=(-e "$name"); fi   # by name, so that the value is not in the process list
done
exec docker run --rm --init --network "${NETBET_NETWORK:-netbet_default}" --user "$(id -u):$(id -g)" "${settings[@]}" \
    -v "$PWD/data_exports:/data_exports" "${TICK_EXPORT_IMAGE:-tick-export}" \
    ConsolidateDayDirect --date "$day" --output-dir /data_exports "$@"
