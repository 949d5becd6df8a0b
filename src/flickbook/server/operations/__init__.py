"""Operation of the service: health, metrics, logs, background maintenance and reference documents.

Read in this order:

    health.py        /healthz, /readyz, /metrics
    logs.py          log formats, with request and job ids
    maintenance.py   periodic tasks: expired leases, webhooks, old jobs and files
    reference.py     the API reference page
    postman.py       a Postman collection generated from OpenAPI
    postman_steps.py the requests of that collection, in the order in which they run
"""
