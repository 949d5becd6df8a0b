"""Frames in, frames or files out. Knows films, pictures and their recipes, but no model.

clip.py         the result: frames with what made them          write.py        files whole or not at all
encode.py       all that PyAV writes                            animate.py      all that Pillow writes
inspect.py      what a file says of itself                      carried.py      the recipe in it, the run beside it
read.py         pictures and films to frames                    timeline.py     which frames stand at another rate
probe.py        child processes that read untrusted files       probe_child.py  such a child, and what it can do
decode.py       films to frames, in the child                   metadata.py     what the bytes say, in the child
still.py        single pictures of a film, in the child
sniff.py        the format by the first bytes, and the limits   picture.py      pictures to pixels, upright and RGB
boxes.py  av1.py                          films walked before they are decoded
jpeg.py  tiff.py  png.py  avif.py         pictures walked before that
interpolate.py  flow.py  rife.py          frames between frames: by OpenCV, or a network
upscale.py  compact.py  rrdb.py           larger: by Lanczos, or one of two networks
steady.py  loop.py  join.py  cut.py  caption.py      light, ends, one after another, a part, words
expected.py     low scores that a prompt explains
quality.py      scores that need no model                       similarity.py   how alike two pictures are
tone.py         one picture in the colours of another           sheet.py        contact sheets and film strips (Pillow)
plot.py         figures (matplotlib)
"""
