"""`python -m bintrades`."""

import sys

from bintrades.cli import main

sys.exit(main())
