"""Comparisons on tables: strategies against each other and other people's, predictors against each other."""
