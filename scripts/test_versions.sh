#!/usr/bin/env bash
# Run the tests with other versions of the packages that we depend on than .venv has.
set -u

usage() {
    cat <<'USAGE'
usage: test_versions.sh oldest|newest [ARGUMENT...]
       test_versions.sh constraints

  oldest       the oldest versions that setup.cfg allows
  newest       the newest ones that there are today
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

# Print the oldest version of each package that the collector, its simulator and its page need.
_constraints() {
    "$(_find_python venv)" -I - "$CHECKOUT/setup.cfg" <<'PYTHON'
import configparser, re, sys

setup = configparser.ConfigParser()
setup.read(sys.argv[1], encoding="utf-8")
extras = setup["options.extras_require"]
needed = setup["options"]["install_requires"] + extras["simulator"] + extras["web"]
for name, version in re.findall(r"(?m)^([\w-]+)(?:\[.*\])? *>= *([\w.]+)$", needed):
    print(f"{name}=={version}")
PYTHON
}

if [ "$1" = constraints ]; then
    _constraints
    exit
fi
export BINTRADES_VENV=$CHECKOUT/.venv-$1 BINTRADES_INSTALLER=pip
if [ "$1" = oldest ]; then
    constraints=$(mktemp) || exit 1
    trap 'rm -f -- "$constraints"' EXIT
    _constraints >"$constraints" && [ -s "$constraints" ] || _fail "no versions found in $CHECKOUT/setup.cfg"
    PIP_CONSTRAINT=$constraints use_environment test
else
    rm -f -- "$BINTRADES_VENV/.bintrades.stamp" # so that pip looks for newer versions each time
    PIP_UPGRADE=1 PIP_UPGRADE_STRATEGY=eager use_environment test
fi
shift

cd -- "$CHECKOUT" || exit 1
python -m pip freeze --exclude-editable | sed 's/^/  /'
python -m pytest -n 4 --dist worksteal "$@"
