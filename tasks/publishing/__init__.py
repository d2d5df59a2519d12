"""An export in an object store or another folder: brought there, fetched back, told apart by a manifest."""
