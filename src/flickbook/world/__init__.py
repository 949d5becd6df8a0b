"""The procedural world: films rendered from a seed, their captions, and the judge that reads them back.

Everything that draws or reads films of the world belongs here. It needs only NumPy and Pillow (and safetensors for the
judge of the book), so it runs on any training machine. Read in this order: `scenes` (what a film shows), `render`
(frames), `captions`, `grammar` and `words` (texts), `detect` (the judge), `agreement` (a prompt beside a film),
`steadiness` (outline, colour and size over time). The painted scenes are in `views/`, the picture book in `book/`.
"""
