"""Read corpora row by row, whatever their format, and account for every row."""

from euds.corpus.identity import Identity, check_unchanged, identities
from euds.corpus.inputs import list_inputs, unpacked_bytes
from euds.corpus.location import file_path
from euds.corpus.read import (
    check_fields,
    check_inputs,
    count_rows,
    field_names,
    field_types,
    read_rows,
    take_rows,
    unreadable_row,
)
from euds.corpus.row import Row, extract_scalar, extract_text
from euds.corpus.run_files import (
    corpus_files,
    generations_path,
    meanings_path,
    open_manifest,
    part_files,
    read_manifest,
    read_parquet,
    read_quarantine,
    read_scores,
    readable_scores,
    run_folder,
    scored_inputs,
    verify_parts,
    whole_parts,
    write_parquet,
)
from euds.corpus.slices import Slice, SliceReader, cut, draw_sample, splittable

__all__ = [
    "Identity",
    "Row",
    "Slice",
    "SliceReader",
    "check_fields",
    "check_inputs",
    "check_unchanged",
    "corpus_files",
    "count_rows",
    "cut",
    "draw_sample",
    "extract_scalar",
    "extract_text",
    "field_names",
    "field_types",
    "file_path",
    "generations_path",
    "identities",
    "list_inputs",
    "meanings_path",
    "open_manifest",
    "part_files",
    "read_manifest",
    "read_parquet",
    "read_quarantine",
    "read_rows",
    "read_scores",
    "readable_scores",
    "run_folder",
    "scored_inputs",
    "splittable",
    "take_rows",
    "unpacked_bytes",
    "unreadable_row",
    "verify_parts",
    "whole_parts",
    "write_parquet",
]
