"""Commands that sync: what they show meanwhile, and how signals end them."""
