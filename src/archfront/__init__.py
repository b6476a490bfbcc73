"""Search a paper's space, keep the Pareto front of every device, take the best sub-network home."""
