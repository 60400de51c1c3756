"""Host or chip, node by node: what each costs, the cheapest way to decide, and why."""
