"""The model family of diffusers pipelines: runs other projects' models through diffusers.

What belongs here: everything that knows about diffusers' classes and call signatures.
Read `registry` (the supported pipelines and their argument names), `inputs` (input files as arguments), `directory`
(what a model's files are, and that they contain no code), `family` (the adapter to the engine), `call` (one pipeline
call in a thread, step by step) and `preview` (frames of a running call); then `recorder` and `state` (resuming a call
from a checkpoint) and `step_cache` (cheaper transformer steps).
"""
