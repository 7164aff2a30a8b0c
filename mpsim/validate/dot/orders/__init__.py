"""Which orders of summation a subject's answers allow, and what tells them apart."""
