"""Tools for agents: the Model Context Protocol (MCP), over stdio and over HTTP, with the SDK `mcp`.

Read in this order: `tool` (what a tool and a call are), `arguments` and `results` (their fields), `making` and
`looking` (the tools), `catalogue` (the list of them). `protocol` serves them with the SDK; `tasks` and `resources` are
the other parts of the protocol. `stdio` and `mount` are the two transports. The rules are those of the service: a tool
calls what a route of `flickbook.server` calls.
"""
