#!/usr/bin/env bash
# Creates the project's own Python environment on first use, then runs `python -m tasks`.
# Needs bash, python3 (3.11 or later) and pip. See ./run_pipeline.sh --help.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# Where the environment is; TICK_EXPORT_VENV moves it, for example if the checkout is read-only.
venv=${TICK_EXPORT_VENV:-$here/.venv}
python=$venv/bin/python
# What the environment is made from: when this changes, the environment is updated.
wanted=$(cat -- "$here/setup.cfg" "$here/pyproject.toml" "$here"/config/*.txt | cksum)

fail() { echo "error: $*" >&2; exit 40; }

# make_environment STAMP EXTRAS: update the environment with these extras, and record that in the stamp.
make_environment() {
    base=$(command -v "${PYTHON:-python3}") || fail "no python3 found. Install Python 3.11 or later, or name one in PYTHON."
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$base is $("$base" --version 2>&1), expected Python 3.11 or later. Name one in PYTHON=/path/to/python3."
    echo "Making the Python environment in $venv with [$2] (first use or new version, about a minute) ..." >&2
    [[ -x $python ]] || "$base" -m venv --without-pip "$venv" || fail "cannot make a Python environment in $venv."
    # pip from outside, into the environment: works where Debian has split ensurepip off
    "$base" -m pip --python "$python" install --quiet --disable-pip-version-check \
        --constraint "$here/config/constraints.txt" --editable "${here}[$2]" >&2 ||
        fail "pip could not install what the pipeline needs (see above). Mend that and start again."
    if [[ $2 == bench ]]; then   # in a folder of its own: the package is for one version of DuckDB only
        "$base" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade --target "$venv/duckdb-scanner" \
            --requirement "$here/config/duckdb-scanner.txt" >&2 || echo "The benchmark goes without DuckDB's PostgreSQL scanner." >&2
    fi
    echo "$wanted" > "$venv/$1"
}

prepare() {
    if [[ $(cat -- "$venv/$1" 2>/dev/null) == "$wanted" ]]; then return; fi
    mkdir -p -- "$venv" || fail "cannot write to $venv. Name another folder in TICK_EXPORT_VENV."
    exec 9> "$venv/lock"
    if command -v flock > /dev/null; then flock 9; fi   # of two first runs at the same time, the second waits
    if [[ $(cat -- "$venv/$1" 2>/dev/null) != "$wanted" ]]; then make_environment "$@"; fi
    exec 9>&-
}

prepare made-from test
# The engines for test --engines are large too.
if [[ ${1:-} == test && " $* " == *" --engines "* ]]; then prepare made-from-engines engines; fi
# So is Spark, which is installed when a cluster is first named.
if [[ " $* " == *" --spark-master"[=\ ]* && " $* " != *" --help "* && " $* " != *" -h "* ]]; then prepare made-from-spark test,spark; fi
# The driver for a browser is installed when it is first needed.
if [[ ${1:-} == test && " $* " == *" --browser "* ]]; then prepare made-from-browser browser; fi
# The tools that the benchmark compares with are large: they are installed when it is first used.
if [[ ${1:-} == bench && " $* " != *" --help "* && " $* " != *" -h "* ]]; then prepare made-from-bench bench; fi

exec "$python" -P -m tasks "$@"   # -P: a folder named tasks in the current directory must not be imported
