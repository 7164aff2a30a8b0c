"""Which orders of summation a subject's answers allow, and what distinguishes them."""
