"""What networks cost: multiply-adds, parameters, memory, milliseconds, counted exactly without building them."""
