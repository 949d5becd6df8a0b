"""What happens inside a run: it is recorded step by step, measured, and shown as figures and as one page.

`record` runs a Plan with hooks on the network, `measures` computes numbers from the record, `figures` draws them, and
`page` and `report` write the files. Nothing here changes how other films are made.
"""
