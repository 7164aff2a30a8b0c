"""What is right, from elsewhere: written without the code under test, or by other projects."""
