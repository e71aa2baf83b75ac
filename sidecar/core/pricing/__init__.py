"""Usage, rate cards, ceilings: what a call costs and the most it can cost."""
