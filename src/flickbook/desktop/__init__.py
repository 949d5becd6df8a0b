"""The window: Tk with ttk, over the local queue or a Flickbook service elsewhere."""
