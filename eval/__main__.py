"""`python -m eval` is the command `jaxalign`."""

import sys

from eval.cli import main

sys.exit(main())
