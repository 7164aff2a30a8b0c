"""Other people's code behind one interface: arrays in, arrays out."""
