"""One self-contained HTML file about a run: what was scored, what was kept, what it bought, what it cost."""

from euds.errors import MissingExtra

try:
    import jinja2
    import matplotlib as mpl
except ImportError as error:
    raise MissingExtra(error.name or "matplotlib", "report") from None

from euds.report.write import write_report

__all__ = ["jinja2", "mpl", "write_report"]
