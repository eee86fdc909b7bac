"""`python -m ipfl` is the command `ipfl`."""

from ipfl.cli.main import entry

if __name__ == "__main__":
    entry()
