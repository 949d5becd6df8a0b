"""Training of the judge of the picture book, `flickbook.world.book.read`.

`recognise` trains the judge, and `corruptions` spoils the pages from which the judge learns.
"""
