"""SQLite: schema, migrations, the single writer, and the queries."""
