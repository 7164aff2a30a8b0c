"""Operations on codes, such as add, multiply and fma: is an implementation right, and if not, where and why."""
