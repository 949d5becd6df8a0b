"""Commands that make films or work on film files: one module per command, named after it.

Read in this order: `generate` (the simplest), `making` (options to Plans to files, shared by all), `output_path` (file
names and early checks) and `tracking` (runs jobs and resumes them). Then `draft`, `sequence` and `batch` make several
films; `polish`, `rerun`, `reproduce`, `inspect` and `diff` begin with an existing film.
"""
