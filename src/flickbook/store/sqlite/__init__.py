"""The SQLite store: one file on one machine, without a server. The default.

All code that uses SQLite belongs here, including checksums, backups and repair of damaged files.
Read in this order: `store` (the Store methods), `database` (connection, locks, errors), `migrations` (schema),
`checksums` (tables and their seals), `query`, `clock`, `key_record` (which API keys exist), then for damaged files
`backup`, `repair` and `pages`.
"""
