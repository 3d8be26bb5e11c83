"""PostgreSQL: tables, sessions, named SQL, migrations."""
