"""Stores: the databases that hold jobs and notes, behind one protocol with two implementations.

A store executes single atomic changes and survives crashes; the rules of the queue are in `flickbook.jobs.queue`,
and files of jobs are in `flickbook.jobs.artifacts`.
Read in this order: `base` (`Job`, `Note`, `Query` and the `Store` protocol), `connect` (URL to store), `blocking` (a
store for synchronous callers), then `sqlite` (one file, no server) or `mongo` (several hosts).
"""
