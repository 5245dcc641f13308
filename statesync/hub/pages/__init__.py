"""Pages: what a pull is answered."""
