"""Files on their way in, and the claim of a run to them."""
