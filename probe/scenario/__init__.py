"""Scenario files: schema, units, gate expressions, loading with located errors. Pure except for reading the files.

Nothing is imported here: a plan names some of the words below, and whoever makes runs needs no pydantic and no YAML for that.
"""
