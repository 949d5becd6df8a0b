"""Training of the judge of the picture book, `flickbook.world.book.read`.

`recognise` trains it, and `corruptions` spoils the pages that it learns from.
"""
