"""The command line: parses options, calls the library and prints the result.

Modules import heavy dependencies inside functions, so that `--help` is fast. Read in this order: `app` (the command
table, errors to exit codes), `options` (shared options), `console` and `progress` (output). Commands that make or
inspect films are in `films/`; servers, windows, jobs, keys and the job store are in `services/`. Commands about models
and the machine are modules of their own name here: `models`, `doctor`, `train`, `evaluate`.
"""
