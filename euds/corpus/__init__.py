"""Read corpora row by row, whatever their format, and account for every row."""

from euds.corpus.inputs import list_inputs
from euds.corpus.read import check_fields, check_inputs, count_rows, field_names, read_rows, take_rows
from euds.corpus.row import Row, extract_text
from euds.corpus.run_files import corpus_files, generations_path, meanings_path, read_manifest, read_scores

__all__ = [
    "Row",
    "check_fields",
    "check_inputs",
    "corpus_files",
    "count_rows",
    "extract_text",
    "field_names",
    "generations_path",
    "list_inputs",
    "meanings_path",
    "read_manifest",
    "read_rows",
    "read_scores",
    "take_rows",
]
