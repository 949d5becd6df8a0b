"""Reading of untrusted files: every image and video that Flickbook did not write itself is parsed and decoded here.

A child process with limits of memory and time does the work. Sizes and counts in the headers are checked before a
decoder sees the file. Read in this order: `probe` (process pool), `probe_child` (the child and its tasks), `sniff`
(formats and limits), `decode` (videos), `picture` (images), `still` (single frames), `metadata`. The parsers come last:
`boxes` and `av1` for videos, `jpeg`, `png`, `tiff` and `avif` for images.
"""
