"""Reports: tables about a program, shown on a terminal, as Markdown or as JSON."""
