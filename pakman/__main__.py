"""`python -m pakman` is the same program as `pakman`."""

import sys

from pakman.cli import main

sys.exit(main())
