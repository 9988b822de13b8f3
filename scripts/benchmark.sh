#!/usr/bin/env bash
# Measure what a trade costs, beside the plain way of collecting it; `benchmark.sh stores`: how fast stores are,
# beside plain client code. `benchmark.sh [stores] --help` says more.
set -u

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment test
cd -- "$CHECKOUT" || exit 1
if [ "${1-}" = stores ]; then
    shift
    exec python -m scripts.benchmark.stores "$@"
fi
exec python -m scripts.benchmark "$@"
