"""LoRAs at generation time: finds their files, checks them and adds them to a model's weights.

What belongs here: everything about LoRA files that a user brings. Training LoRAs belongs in `learn`.
Read `find` (a name to a file and a weight), `file` (the checked contents of a file), `layer_names` (the naming schemes
of trainers), then `apply` (matching to a model's layers, and adding).
"""
