"""The studio: a web page at /studio of the service, and an endpoint for `gradio_client`.

Read in this order:

    mount.py        mounts the page, and decides which of Gradio's routes are reachable
    page.py         the tabs of the page, with Gradio; the parts that update are in static/
    form.py         the form fields and their limits
    login.py        the login page
    endpoint.py     the endpoint `/generate` for `gradio_client`
    theme.py        colours and fonts
"""
