"""`python -m avcil` is the command line."""

from avcil.cli import main

main()
