"""The OpenAI-compatible API under /v1, for clients of OpenAI, SGLang and vLLM-Omni.

Read in this order:

    fields.py       request bodies: fields that are used, ignored or refused
    responses.py    jobs as videos, in the form of the OpenAI API
    videos.py       /v1/videos
    images.py       /v1/images
    models.py       /v1/models, and model names in requests
"""
