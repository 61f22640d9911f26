"""`python -m vidload`: the same as the `vidload` command."""

import sys

from vidload.cli import main

sys.exit(main())
