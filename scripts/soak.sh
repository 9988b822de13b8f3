#!/usr/bin/env bash
# A month in an hour: 30 days of a 400-symbol market through the real process. `soak.sh --help` says more.
set -u

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment test soak
cd -- "$CHECKOUT" || exit 1
exec python -m scripts.soak "$@"
