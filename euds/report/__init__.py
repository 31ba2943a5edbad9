"""Show what was scored, what was kept and what it bought, in one self-contained HTML file."""
