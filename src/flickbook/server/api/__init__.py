"""The native API under /api/v1: one module for each group of routes.

Read in this order:

    requests.py, responses.py   the request bodies and the responses
    jobs.py, queue_position.py  jobs; their place in the queue and remaining time
    job_files.py, thumbnails.py files of jobs, with ranges and signed links
    events.py, webhooks.py      server-sent events, webhooks
    drafts.py, batches.py, sequences.py, recipes.py   further ways to create and inspect films
    catalogue.py, pulls.py, loras.py                  models, their downloads, LoRAs
"""
