#!/usr/bin/env bash
# Run the tests with other versions of the packages that we depend on than .venv has.
set -u

usage() {
    cat <<'USAGE'
usage: test_versions.sh oldest|newest [--quick] [ARGUMENT...]
       test_versions.sh constraints

  oldest       the oldest versions that setup.cfg allows
  newest       the newest ones that there are today
  --quick      only the tests that reach into those packages, in a minute: what guards main
  ARGUMENT     goes to pytest; without one, the whole suite
  constraints  print the oldest versions in the form that pip's --constraint takes

Each has an environment of its own, .venv-oldest and .venv-newest in the checkout, made on first use.
USAGE
}

case ${1-} in
    oldest | newest | constraints) ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# What each package is used by, and that every module can be imported at all.
QUICK=(
    tests/test_versions.py
    tests/journal/test_writer.py tests/exchange/binance/test_messages.py # msgspec
    tests/exchange/binance/feed tests/net/test_websocket.py # websocket-client
    tests/exchange/binance/test_rest.py                     # urllib3
    tests/stores                                            # pluggy, pymongo
    tests/plugins                                           # clickhouse-connect, confluent-kafka, duckdb, pytz, obstore, psycopg, redis
    tests/util/test_logs.py                                 # python-json-logger
    tests/app/test_scheduler.py                             # schedule
    tests/app/test_monitoring.py                            # prometheus-client
    tests/app/test_page.py                                  # starlette, uvicorn
    tests/cli/test_tables.py                                # tabulate
    tests/cli/test_plot.py                                  # altair, vl-convert-python
    tests/cli/test_export.py                                # pyarrow, what it writes
    tests/test_arrow.py tests/reading                       # pyarrow, pandas, polars
    tests/test_bson_decimals.py                             # pymongo, pandas
    tests/cli/test_watch.py                                 # rich
    tests/cli/test_completion.py tests/cli/test_man.py      # shtab, argparse-manpage
    tests/testing/test_exchange_simulator.py                # wsproto
    -k 'not browser and not memory and not spark and not killed' # slow, and the same with any of them
)

# Print the oldest version of each package that the collector and its extras need, but for those of developers.
_constraints() {
    "$(_find_python venv)" -I - "$CHECKOUT/setup.cfg" <<'PYTHON'
import configparser, re, sys

setup = configparser.ConfigParser()
setup.read(sys.argv[1], encoding="utf-8")
extras = setup["options.extras_require"]
of_extras = "".join(extras[name] for name in extras if name not in ("test", "docs", "soak"))
needed = setup["options"]["install_requires"] + of_extras
for name, version in re.findall(r"(?m)^([\w-]+)(?:\[.*\])? *>= *([\w.]+)$", needed):
    print(f"{name}=={version}")
PYTHON
}

if [ "$1" = constraints ]; then
    _constraints
    exit
fi
export BINTRADES_VENV=$CHECKOUT/.venv-$1
if [ "$1" = oldest ]; then
    constraints=$(mktemp) || exit 1
    trap 'rm -f -- "$constraints"' EXIT
    _constraints >"$constraints" && [ -s "$constraints" ] || _fail "no versions found in $CHECKOUT/setup.cfg"
    # The first has pip chosen, unless BINTRADES_INSTALLER says uv.
    PIP_CONSTRAINT=$constraints UV_CONSTRAINT=$constraints use_environment test
else
    export BINTRADES_INSTALLER=pip
    rm -f -- "$BINTRADES_VENV/.bintrades.stamp" # so that pip looks for newer versions each time
    PIP_UPGRADE=1 PIP_UPGRADE_STRATEGY=eager use_environment test
fi
shift
tests=()
if [ "${1-}" = --quick ]; then
    tests=("${QUICK[@]}")
    shift
fi

cd -- "$CHECKOUT" || exit 1
python -c '
from importlib.metadata import distributions
for name, version in sorted({(each.name, each.version) for each in distributions()}):
    print(f"  {name}=={version}")'
python -m pytest -n 4 --dist worksteal ${tests[@]+"${tests[@]}"} "$@"
