"""Frames in, frames or files out. Knows films, pictures and their recipes, but no model.

clip.py      the result: frames with what made them           write.py    MP4 and PNG, whole or not at all
read.py      pictures and films to frames                     inspect.py  what a file says, and its recipe
sniff.py     the format by the first bytes, and the limits    boxes.py    films walked before they are decoded
picture.py   pictures to pixels, upright and RGB              jpeg.py  tiff.py   pictures walked before that
timeline.py  which frames stand at another rate               sheet.py    contact sheets and film strips (Pillow)
plot.py      figures (matplotlib)
"""
