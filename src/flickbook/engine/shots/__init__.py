"""Films of several shots: one prompt, length and beginning for each, joined to one film.

What belongs here: reading a shot list, planning its film, and making it shot by shot.
Read `shot_list` (what a user writes), `plan` (Request -> Plan), `film` (the entry point), then `takes` (finished shots
that a resumed run reuses).
"""
