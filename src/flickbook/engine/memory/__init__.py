"""Memory, devices and the choice of a Placement that fits.

What belongs here: the measurement of this machine, the estimate of memory and time before a model is loaded, and the
fallbacks when memory runs out during a run. All but `device` (in part) and `quantize` work without torch.
Read `machine` and `device` (what this machine has), `components` and `footprint` (what a model needs), `estimate` and
`fit` (whether it fits, and with which Placement), then `fallback`, `quantize` and `run_history`.
"""
