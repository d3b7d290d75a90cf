"""`python -m pakman` is the same program as `pakman`."""

from pakman.cli import program

program()
