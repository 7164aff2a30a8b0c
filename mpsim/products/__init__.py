"""Matrix products described in stages."""
