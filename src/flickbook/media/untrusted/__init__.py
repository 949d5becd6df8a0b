"""Reading of untrusted files: every image and video that Flickbook did not write itself is parsed and decoded here.

A child process with limits of memory and time does the work. The libraries' own readers (Pillow, FFmpeg) parse the
headers there, and sizes are checked before anything is decoded. Read in this order: `probe` (process pool),
`probe_child` (the child and its tasks), `sniff` (formats and limits), `decode` (videos), `picture` (images), `still`
(single frames), `metadata`. `boxes` and `png` read what the libraries do not tell: truncation, counts and durations.
"""
