"""`python -m scalex`: the command line."""

from scalex.cli import main

if __name__ == "__main__":
    main()
