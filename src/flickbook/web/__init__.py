"""The studio: a page in the browser over the service, and the endpoint of it for `gradio_client`."""
