"""Frames in, frames or files out. Knows films, pictures and their recipes, but no model.

clip.py   the result: frames with what made them           write.py  MP4 and PNG, whole or not at all
read.py   files back to frames, hostile ones refused       sheet.py  contact sheets and film strips (Pillow)
plot.py   figures (matplotlib)
"""
