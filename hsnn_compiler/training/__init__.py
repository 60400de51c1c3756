"""Training of graphs: what conversion lost is won back on the graph itself, after any pass (docs/fine-tuning.md)."""
