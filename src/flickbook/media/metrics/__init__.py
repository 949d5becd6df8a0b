"""Metrics of films, in NumPy alone: quality scores without a reference, and the similarity of two images.

Read in this order: `similarity` (PSNR, SSIM, temporal coherence), `quality` (scores from 0 to 1 and their limits), and
`expected` (low scores that the prompt explains). Each function takes uint8 frames (frames, height, width, 3). Metrics
that need a trained model do not belong here.
"""
