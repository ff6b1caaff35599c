"""One public function per operation, with a torch twin of each. Knows tensors, never requests."""
