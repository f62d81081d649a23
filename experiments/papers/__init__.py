"""What papers claim of blocks, widths, nonlinearities and ranks, tried here."""
