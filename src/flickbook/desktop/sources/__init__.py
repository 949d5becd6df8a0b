"""Sources: where the window's jobs and films come from, the local queue or a remote service.

No code here uses tkinter; the window calls a Source from a background thread.
Read in this order: `source` (the protocol and its records), `local` (the queue of this computer, with a worker process
of the window's own), `remote` (a service over its /api/v1), `downloads` (models that queued local jobs need).
"""
