"""Sequences: stills made one by one by an image model, and joined to a film.

What belongs here: the interpolation between prompts, the single images, and the directory they are saved in.
Read `sequence` (the entry point), `interpolation` (noise and prompt embedding of each still), `stills` (runs the image
model for one still), then `frame_directory` (saves the stills and resumes from them).
"""
