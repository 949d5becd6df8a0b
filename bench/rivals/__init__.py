"""The sides that are compared, one in each file; each says in words what it could not do."""
