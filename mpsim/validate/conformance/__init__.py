"""Compares an implementation with IEEE P3109, one operation specialization after the other."""
