"""From a request body to a job in the queue.

Read in this order:

    forms.py          JSON, multipart and URL-encoded bodies as one nested dict
    uploads.py        uploaded images and films
    revisions.py      jobs made from films: edits, extensions, remixes, repeats
    idempotency.py    the Idempotency-Key header
    submit.py         submits jobs to the queue if their models are downloaded, and waits for them
"""
