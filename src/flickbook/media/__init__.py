"""Films and images: frames in, frames or files out. Knows films, images and their recipes, but no model.

Read in this order:

    clip.py, timeline.py                the result of a run; the presentation times of frames
    write.py, encode.py, animate.py     files, written atomically; encoders through PyAV and through Pillow
    background_encoder.py               encodes a film in a thread while its frames are being made
    read.py, inspect.py, embedded.py    files to frames; the metadata and the recipe of a file
    facts.py                            frames, size and rate of many files
    untrusted/                          parses and decodes files from others, in a child process with limits
    finishing/                          operations on finished frames: upscaling, interpolation, loops, captions
    metrics/                            quality scores and similarity
    sheet.py, plot.py                   contact sheets (Pillow) and figures (matplotlib)
"""
