"""How good predictions are, and how sure that is: from what a model says and what is so to the document of evidence; no torch."""
