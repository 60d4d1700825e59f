"""The dashboards, one a file: each answers one question, and leads to the next."""
