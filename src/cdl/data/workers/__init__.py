"""The workers of data steps: project code and commands over many items, side by side, apart from this process."""
