"""Model families as readable torch modules, and the loading of their weights."""
