"""The built-in guide: what it knows, how conversations are written from it, and how good it is."""
