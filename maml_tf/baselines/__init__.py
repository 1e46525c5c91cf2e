"""What the paper compares MAML with."""
