"""The lessons, a file each: _lessons/NAME.py has `run`."""
