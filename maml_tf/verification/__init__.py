"""The paper's rows: what it says, what was measured here, and whether that agrees."""
