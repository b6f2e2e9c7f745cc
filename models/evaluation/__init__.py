"""How good a pack is, on data that it was not made from: labels or truth in, figures with their confidence intervals out."""
