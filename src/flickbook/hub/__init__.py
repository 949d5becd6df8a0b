"""Model files: where they are on this machine, how they are downloaded and converted, and whether they are intact.

Code that reads untrusted model files or talks to the Hugging Face hub belongs here. The list of models is in
`flickbook.catalogue`; loading networks belongs to `flickbook.engine`.
Read in this order: `find` (installed models), `fetch` (download and convert), `pull` (one repository), `fetching` (a
download in a child process), `manifest` (hashes), `layout` (file names), `add` (models of the user), then
conversion: `checkpoint`, `pickle_program`, `videocrafter`.
"""
