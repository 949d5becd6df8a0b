"""The figures of an explained run, drawn with matplotlib in the style of `media/plot.py`. They compute nothing."""
