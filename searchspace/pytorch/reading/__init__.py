"""Networks of others as an `Arch`: a PyTorch module is traced into layers, and these are recognised as blocks."""
