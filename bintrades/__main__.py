"""`python -m bintrades`."""

import sys

from bintrades.cli.main import main

sys.exit(main())
