"""Super-networks that the field searches: full sizes, official checkpoints, and small ones that train here."""
