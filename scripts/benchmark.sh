#!/usr/bin/env bash
# Measure what a trade costs, beside the plain way of collecting it. `benchmark.sh --help` says more.
set -u

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment test
cd -- "$CHECKOUT" || exit 1
exec python -m scripts.benchmark "$@"
