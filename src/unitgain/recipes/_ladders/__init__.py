"""Ladders: a recipe's rungs beside published results. A file is named after the recipe's and has a function `run`."""
