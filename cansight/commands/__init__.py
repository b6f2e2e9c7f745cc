"""One file per noun of the command line; each defines one click group or command."""
