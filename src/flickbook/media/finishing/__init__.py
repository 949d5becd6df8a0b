"""Operations on the frames of a finished film. Each takes and returns uint8 arrays, without models of films or jobs.

Read in this order: `cut` (trim, frame rate), `join`, `loop`, `caption` and `tone`, which need NumPy and Pillow alone;
`steady` (flicker removal); `interpolate` with `flow` (OpenCV) and `rife` (network); `upscale` with `compact` and `rrdb`
(networks). Functions that combine these steps belong in `flickbook.engine`, file formats in `flickbook.media`.
"""
