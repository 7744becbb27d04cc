"""`python -m sojourn.cli` is the command `sojourn`, and says so where a run notes its command."""

import sys

from sojourn.cli import main

sys.argv[0] = "sojourn"
sys.exit(main())
