"""The command line of Cansight: one file per noun in `commands/`, settings read and checked in `settings`, errors shown in `main`."""

__version__ = "0.1.0"
