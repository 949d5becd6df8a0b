"""Artifacts that several machines share: the files of jobs in object storage or on a shared file system.

Read in this order: `remote` (files by name at a URL, in hashed parts), `artifacts` (the artifact store on top of it).
Needs the extra `cluster`.
"""
