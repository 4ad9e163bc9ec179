"""Rows that the rules get wrong today, and why. A row that is put right has to leave this list: its test says so."""

KNOWN: dict[str, str] = {}
