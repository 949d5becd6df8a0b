"""The desktop window: Tk with ttk, for the local queue or a remote Flickbook service.

All code that uses tkinter belongs here. Tk's thread only draws; files, the store and the network are used from
background threads.
Read in this order: `run` (starts the window), `window` (connects the parts), `sources` (where jobs come from), the
parts of the window `form` with `fields`, `stage`, `history` and `messages`, then `widgets` (what they are built of),
`connection` (dialog), `background` (threads), `frame_buffer`, `files`.
"""
