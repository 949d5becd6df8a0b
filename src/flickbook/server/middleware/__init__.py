"""ASGI middleware: what happens to every request before its route runs.

Read in this order, from the outside in:

    timeouts.py          connections: time limits for slow clients
    request_context.py   request ids, access log, metrics, security headers
    origin_check.py      allowed hosts and origins, authentication of writing requests
    body_limits.py       type, size, speed and depth of request bodies
    raw_request.py       helpers to read a request's ASGI scope
"""
