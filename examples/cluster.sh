#!/bin/sh
# A cluster on this machine: a store, storage, a Ray cluster of three machines (one is its head), two services. Twenty
# films are queued through OpenAI's client; then a machine and a service are killed. Ends with twenty films that
# `flickbook reproduce` calls identical. Takes some minutes on two cores.
#
# Usage: sh examples/cluster.sh [DIRECTORY]     in a checkout, after `make run`; it installs the packages it misses
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || { echo "error: there is no $root/.venv; run make run first" >&2; exit 2; }
"$python" -c 'import flask_cors, moto, nx_27017, openai, pymongo, ray, s3fs' 2>/dev/null ||
    "$python" -m pip install --quiet -e "$root[gen,finish,server,ui,train,mongo,mcp,cluster,dev]" -c "$root/constraints.txt"
exec "$python" "$root/examples/cluster.py" "${1:-$(mktemp -d)}"
