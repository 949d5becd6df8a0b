"""Speed and memory, side by side with the stock pipeline: `make bench`."""
