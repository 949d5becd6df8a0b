"""The files of models: where they are on this machine, how they come here, and whether they are whole."""
