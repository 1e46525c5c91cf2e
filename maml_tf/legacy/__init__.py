"""What connects this code with the TF1 code: its checkpoints and its golden values."""
