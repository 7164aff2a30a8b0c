"""What subjects are asked."""
