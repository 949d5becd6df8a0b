"""Workers on the machines of a Ray cluster. Ray starts and places them; jobs stay in the store, files in the storage.

    driver.py      a process beside the server: connects to Ray and keeps as many actors as the queue needs
    actor.py       one worker on a machine of the cluster
    scaling.py     how many actors there should be
    requirements.py    what its machines must share

Losing an actor, a machine, the head of the cluster or the driver loses no job: its lease expires, and another worker
continues from its last checkpoint. Needs the extra `cluster`.
"""
