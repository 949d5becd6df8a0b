"""Widgets: what the parts of the window are built of.

A widget knows no job and no Source.
Read in this order: `theme` (colours, fonts and the ttk style), `scroll` (a frame that scrolls), `player` (plays films).
"""
