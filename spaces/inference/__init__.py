"""Spaces of networks that infer: given a data set, they answer with a distribution."""
