#!/usr/bin/env bash
# The replaced wrapper by its old name: one UTC day straight from PostgreSQL, in a container beside it.
#   config/docker/run_consolidate_direct_docker.sh 2026-02-16 [options of ConsolidateDayDirect]
# CSV and report come into ./data_exports. The database is set by the environment, or by .env in this folder (see config/env.example), but for
# its host: that is netbet-postgres unless the environment says otherwise. NETBET_NETWORK is the network that it is in, TICK_EXPORT_IMAGE
# the image (build it as config/docker/Dockerfile says).
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
    if [[ -v $name ]]; then settings+=(-e "$name"); fi   # by name: the value does not show in the process list
done
exec docker run --rm --init --network "${NETBET_NETWORK:-netbet_default}" --user "$(id -u):$(id -g)" "${settings[@]}" \
    -v "$PWD/data_exports:/data_exports" "${TICK_EXPORT_IMAGE:-tick-export}" \
    ConsolidateDayDirect --date "$day" --output-dir /data_exports "$@"
