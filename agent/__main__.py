"""`python -m agent` is `emox`."""

from .cli import main

main()
