"""The append-only records of runs, requests and events: SQLite by default, PostgreSQL by URL."""
