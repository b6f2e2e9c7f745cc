"""`python -m cansight` is `cansight`."""

from cansight.main import main

main()
