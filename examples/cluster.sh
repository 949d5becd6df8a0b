#!/bin/sh
# A cluster on this machine: a store, storage, a Ray cluster of three machines (one is its head), two services. Twenty
# films are queued through OpenAI's client; then a machine and a service are killed. Ends with twenty films that
# `flickbook reproduce` calls identical. Takes some minutes on two cores.
#
# Usage: sh examples/cluster.sh [DIRECTORY]     in the environment of `make run`, with the packages of `make test`
set -eu

here=$(cd "$(dirname "$0")" && pwd)
place=${1:-$(mktemp -d)}
mkdir -p "$place"
exec python "$here/cluster.py" "$place"
