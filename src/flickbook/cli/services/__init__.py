"""Commands that start a service or manage its data: one module per command or command group, named after it.

Read in this order: `options` (options shared by `serve` and `studio`, and the Service built from them), `serve`,
`studio`, `desktop` and `mcp`. Then `jobs` (the queue), `keys` (API keys) and `store` (check, back up and repair the job
store).
"""
