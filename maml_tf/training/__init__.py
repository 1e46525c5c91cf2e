"""The outer loop: optimizers, checkpoints, callbacks, and `fit`."""
