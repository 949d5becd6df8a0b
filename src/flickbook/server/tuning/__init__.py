"""LoRA trainings over HTTP: a dataset is uploaded and checked, and its training becomes a job of the queue.

Everything that only trainings need belongs here; the finished LoRAs are listed in `server.api.loras`, and served with
the other files of jobs. `routes` are the two endpoints, `requests` their fields and the report, `datasets` the uploaded
files, `checks` the process that loads a model to check a dataset.
"""
