"""Workers: the processes that claim jobs from the queue and run them.

Everything that happens between claiming a job and settling it belongs here; the rules of job states are in
`flickbook.jobs.queue`.
Read in this order: `supervisor` (starts worker processes), `worker` (the main loop), `roster` (the workers of all
machines), `affinity` (which jobs one takes), `models` (what happens to jobs whose model is not here), `batching` (jobs
that run together), `runner` (runs claimed jobs), `lease` (keeps claims alive), `sequences` (runs sequence jobs),
`output` (writes the files, in a thread), `prefetch` (encodes the next prompts), `progress` (also of previews), `log`.
"""
