"""Commands that sync: what they show meanwhile, and how Ctrl-C ends them."""
