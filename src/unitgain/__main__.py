"""`python -m unitgain` is the same as `unitgain`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
