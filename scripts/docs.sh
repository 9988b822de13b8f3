#!/usr/bin/env bash
# Make a site of README.md and docs/.
set -u

usage() {
    cat <<'USAGE'
usage: docs.sh [FOLDER]

Make a site of README.md and docs/ with Sphinx, whose menu is in scripts/docs/conf.py. A link that
leads nowhere and a page that the menu lacks are errors.

  FOLDER    where to; without it, build/site of this checkout
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
    -*)
        usage >&2
        exit 2
        ;;
esac

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment docs
site=${1:-$CHECKOUT/build/site}
[[ $site == /* ]] || site=$PWD/$site
cd -- "$CHECKOUT" || exit 1
python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir scripts/docs \
    --doctree-dir "$site/.doctrees" . "$site" || exit 1
printf '%s\n' "$site/index.html"
