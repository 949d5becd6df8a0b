"""Jobs: the queue, its rules, the files of jobs, API keys, signed links and webhooks.

A job is one film, picture, draft or sequence that a caller requested. Modules here create jobs, move them between
states and decide who may use them. The processes that run jobs are in `workers`; `shared` keeps the files of jobs where
several machines find them; the databases are in `flickbook.store`.
Read in this order: `create` (request to job), `queue` (states and transitions), `backend` (the queue for synchronous
callers), `artifacts` (files), `eta` (remaining time), `api_keys`, `signed_links`, `webhooks`, `safe_http`.
"""
