"""The HTTP service: submits jobs to the queue and serves their state and files; runs no model, loads no torch.

Read in this order:

    app.py, run.py          the FastAPI application; the server process and its workers
    service.py, errors.py   the state that all routes share; error responses and status codes
    middleware/, access/    checks before a route runs: hosts, origins, body limits, API keys, rate limits, logins
    submission/             from a request body to a job in the queue: forms, uploads, idempotency
    api/                    the native API under /api/v1
    compatible/             the OpenAI-compatible API under /v1
    operations/             health, metrics, logs, maintenance, reference documents
"""
