"""project code and commands over many items, side by side, in processes of their own."""
