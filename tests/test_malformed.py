"""Malformed rows of every format: none is lost, ends the run, or scores 0.0 for being bad; and malformed files."""

import csv
import datetime
import decimal
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from slices import read_slices

import euds
from euds.corpus import (
    check_inputs,
    count_rows,
    cut,
    delimited,
    extract_text,
    read_rows,
    read_scores,
)
from euds.errors import InputError

WORDS = ["film", "plot", "actor", "sad", "über", "写", "e\u0301", "1.5", "don't", "\u200d", "🎬"]
N_JSONL, N_CSV, N_COLUMN = 5400, 2400, 90

WHOLE_VALUES = [
    b"null", b"true", b"0", b'"text"', b"[]", b"NaN", b"-Infinity", b"[" * 5000, b'{"text":' * 3000, b"{}", b"{", b"}{",
    b"\xef\xbb\xbf" + b'{"text": "behind a mark"}', b"\x00", b"\x00" * 50, b"\x1f\x8b\x08", b"PAR1", b"'text'",
    b'{"text": "a"} {"text": "b"}', b'{"text": "a"},', b"// comment", b"\xff\xfe{\x00}\x00", b'{"text": "a\tb"}',
    b'{"text": "\\ud83d"}', b'{"text": "\\ude00\\ud83d"}', b'{"text": "\\uZZZZ"}', b'{"text": "\xed\xa0\x80"}',
    b'{"text": "a", "text": null}', b'{"text": null, "text": "a film"}', b'{"TEXT": "a"}', b'{"text ": "a"}',
]  # fmt: skip
VALUES = [
    b"null", b"true", b"12", b"-0", b"1e999", b"1" * 400, b"1" * 5000, b"NaN", b"Infinity", b"{}", b"[]", b'["a"]',
    b'{"text": "a"}', b'""', b'" "', b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"12"', b'"\\ufeff"', b'"..."',
    b'"\xff"', b'"\\u200b"', b'"\xe2\x80\xa8"', b"'a'", b"undefined", b"", b"0x1F", b"[" * 900 + b"]" * 900,
]  # fmt: skip


def words(rng: random.Random, n: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, n)))


def malformed_line(rng: random.Random) -> bytes:
    """Return a line that is not blank and holds no newline; a few are good all the same."""
    good = json.dumps({"text": words(rng), "label": rng.randint(0, 2)}, ensure_ascii=rng.random() < 0.5).encode()
    kind = rng.randrange(8)
    if kind == 0:
        return good[: rng.randint(1, len(good))]
    if kind == 1:
        at = rng.randrange(len(good))
        return good[:at] + rng.choice([b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\\", b'"', b"\xc3"]) + good[at:]
    if kind == 2:
        return rng.choice(WHOLE_VALUES)
    if kind == 3:
        line = bytes(rng.choices(range(256), k=rng.randint(1, 80))).replace(b"\n", b"")
        return line if line.strip() else b"\x00"
    if kind == 4:
        return b'{"text": ' + rng.choice(VALUES) + b', "label": ' + rng.choice(VALUES) + b"}"
    if kind == 5:
        return b'{"label": "a", "text": ' + rng.choice(VALUES) + b"}"
    if kind == 6:
        return (
            b'{"text": "' + b"\\u0000" * rng.randint(0, 1) + words(rng).encode("utf-16-le").replace(b"\n", b"") + b'"}'
        )
    return good


def json_text(line: bytes) -> str | None:
    """Return the text that a line holds, by the plainest reading of it."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return usable(value.get("text")) if isinstance(value, dict) else None


def usable(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def write_jsonl(folder: Path, rng: random.Random) -> tuple[list[Path], list[str | None]]:
    lines = [malformed_line(rng) for _ in range(N_JSONL)]
    for at in range(0, N_JSONL, 700):
        text = words(rng) + " sad plot" * 120_000
        lines[at] = json.dumps({"text": text}).encode()
        lines[at + 1] = lines[at][: 1 << 20]
    paths, half = [], len(lines) // 2
    for name, some in (("a.jsonl", lines[:half]), ("b.jsonl.gz", lines[half:])):
        content = b"\xef\xbb\xbf" + b"".join(line + rng.choice([b"\n", b"\r\n", b"\n\n", b"\n \n"]) for line in some)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        paths.append(folder / name)
    return paths, [json_text(line) for line in lines]


def write_csv(folder: Path, rng: random.Random) -> tuple[list[Path], list[str | None]]:
    """Write records of one to four values under a header of two."""
    content, texts = b"text,label\r\n", []
    for _ in range(N_CSV):
        values = [
            rng.choice([words(rng), "", " ", "a\0b", "5", 'say "x"', "two\nlines"]) for _ in range(rng.randint(2, 3))
        ]
        if rng.random() < 0.3:
            values = values[:1]
        record = io.StringIO()
        csv.writer(record, quoting=csv.QUOTE_ALL, lineterminator=rng.choice(["\n", "\r\n"])).writerow(values)
        encoded = record.getvalue().encode()
        broken = rng.random() < 0.2
        content += encoded.replace(b'"', b'"\xff', 1) if broken else encoded
        texts.append(usable(values[0]) if len(values) == 2 and not broken else None)
    (folder / "c.csv").write_bytes(content)
    return [folder / "c.csv"], texts


def bad_utf8(rng: random.Random, kind: pa.DataType) -> pa.Array:
    """Return texts of which some are no UTF-8, as other programs write them."""
    raw = pa.array([rng.choice([b"a film", b"\xff\xfe", b"", b"\xed\xa0\x80"]) for _ in range(N_COLUMN)], pa.binary())
    text = pa.Array.from_buffers(pa.string(), N_COLUMN, raw.buffers())
    return pa.DictionaryArray.from_arrays(pa.array(range(N_COLUMN), pa.int32()), text) if kind == DICTIONARY else text


DICTIONARY = pa.dictionary(pa.int32(), pa.string())
DAY = datetime.date(2024, 2, 29)

COLUMNS: dict[str, Callable[[random.Random], pa.Array]] = {
    "string": lambda rng: pa.array([rng.choice([words(rng), None, "", " "]) for _ in range(N_COLUMN)], pa.string()),
    "large_string": lambda rng: pa.array([words(rng) for _ in range(N_COLUMN)], pa.large_string()),
    "string_view": lambda rng: pa.array([rng.choice([words(rng), None]) for _ in range(N_COLUMN)], pa.string_view()),
    "dictionary": lambda rng: pa.array([rng.choice(["a film", None]) for _ in range(N_COLUMN)]).dictionary_encode(),
    "bad_utf8": lambda rng: bad_utf8(rng, pa.string()),
    "bad_dictionary": lambda rng: bad_utf8(rng, DICTIONARY),
    "null": lambda rng: pa.nulls(N_COLUMN),
    "int": lambda rng: pa.array([rng.choice([rng.randint(-9, 9), None]) for _ in range(N_COLUMN)], pa.int64()),
    "uint": lambda rng: pa.array([2**64 - 1] * N_COLUMN, pa.uint64()),
    "float": lambda rng: pa.array([rng.choice([0.0, float("nan"), float("inf")]) for _ in range(N_COLUMN)]),
    "half": lambda rng: pa.array([1.5] * N_COLUMN, pa.float32()).cast(pa.float16()),
    "bool": lambda rng: pa.array([rng.random() < 0.5 for _ in range(N_COLUMN)]),
    "binary": lambda rng: pa.array([rng.choice([b"a film", b"\xff", None]) for _ in range(N_COLUMN)], pa.binary()),
    "fixed_binary": lambda rng: pa.array([b"abcd"] * N_COLUMN, pa.binary(4)),
    "list": lambda rng: pa.array([rng.choice([["a"], [], None]) for _ in range(N_COLUMN)], pa.list_(pa.string())),
    "struct": lambda rng: pa.array([rng.choice([{"text": "a"}, None]) for _ in range(N_COLUMN)]),
    "map": lambda rng: pa.array([[("a", 1)]] * N_COLUMN, pa.map_(pa.string(), pa.int64())),
    "decimal": lambda rng: pa.array([decimal.Decimal("1.50")] * N_COLUMN),
    "date": lambda rng: pa.array([DAY] * N_COLUMN),
    "date_far": lambda rng: pa.array([2**31 - 1, 0] * (N_COLUMN // 2), pa.int32()).cast(pa.date32()),
    "time": lambda rng: pa.array([rng.randint(0, 86_399) * 10**9 + 1 for _ in range(N_COLUMN)], pa.time64("ns")),
    "timestamp_far": lambda rng: pa.array([2**62, -(2**62)] * (N_COLUMN // 2), pa.timestamp("us")),
    "timestamp_ns": lambda rng: pa.array([rng.randint(0, 2**60) for _ in range(N_COLUMN)], pa.timestamp("ns")),
    "timestamp_zone": lambda rng: pa.array([0] * N_COLUMN, pa.timestamp("us", "Nowhere/Nothing")),
    "duration": lambda rng: pa.array([2**62] * N_COLUMN, pa.duration("s")),
}  # fmt: skip
"""Columns named `text` of every type; those that Parquet lacks are written to Arrow alone."""

NOT_IN_PARQUET = {"string_view", "map"}
TEXT_COLUMNS = {"string", "large_string", "string_view", "dictionary"}


def write_columns(folder: Path, rng: random.Random) -> tuple[list[Path], list[str | None]]:
    paths: list[Path] = []
    texts: list[str | None] = []
    for at, (name, make) in enumerate(COLUMNS.items()):
        table = pa.table({"text": make(rng), "label": pa.array([1.5] * N_COLUMN)})
        path = folder / f"d{at:02}-{name}.{'arrow' if at % 2 or name in NOT_IN_PARQUET else 'parquet'}"
        if path.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=40)
        else:
            opener = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])
            with opener(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=40)
        paths.append(path)
        if name in TEXT_COLUMNS:
            texts += [usable(value) for value in table.column("text").to_pylist()]
        elif name.startswith("bad"):
            column = table.column("text").combine_chunks()
            raw = (column.dictionary if name == "bad_dictionary" else column).view(pa.binary()).to_pylist()
            texts += ["a film" if value == b"a film" else None for value in raw]
        else:
            texts += [None] * N_COLUMN
    return paths, texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label,text\na,b,c\n", "a name stands twice in the header: text, label, text"),
        ('"text,label\na,b\n', "a quote in the header is never closed"),
        ("t" * 60 + "\na\n", "not CSV: record is longer than 50 bytes"),
    ],
)
def test_a_csv_header_that_names_no_columns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", 50)
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=rf"a\.csv: {message}"):
        check_inputs([tmp_path / "a.csv"])


def test_every_file_is_looked_at_before_work_begins(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"b\.jsonl\.gz: damaged gzip file"):
        check_inputs([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"])


@pytest.mark.slow
def test_ten_thousand_malformed_rows_are_all_accounted_for(tmp_path: Path) -> None:
    rng = random.Random(0)
    paths: list[Path] = []
    texts: list[str | None] = []
    for write in (write_jsonl, write_csv, write_columns):
        some, expected = write(tmp_path, rng)
        paths += some
        texts += expected
        assert count_rows(some) == len(expected), write
    assert len(texts) >= 10_000
    extracted = [extract_text(row, ["text"]) for row in read_rows(paths)]
    assert [text for text, _ in extracted] == texts
    assert all((text is None) == bool(reason) for text, reason in extracted)
    sliced = (row for at, shard in enumerate(cut(paths, 97)) for row in read_slices(shard, first_row_id=97 * at))
    assert [extract_text(row, ["text"]) for row in sliced] == extracted

    result = euds.score(paths, out=tmp_path / "run", measures=["information"], shard_rows=500)
    assert result.n_rows == len(texts) == result.n_scored + result.n_quarantined
    scores = read_scores(tmp_path / "run")
    assert scores.column("row_id").to_pylist() == list(range(len(texts)))
    lines = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    reasons = {entry["row_id"]: entry["reason"] for entry in map(json.loads, lines)}
    assert len(reasons) == result.n_quarantined
    assert all(reasons.values())
    assert {at for at, text in enumerate(texts) if text is None} <= reasons.keys()
    wordless = [texts[at] for at in reasons if texts[at] is not None]
    assert {reasons[at] for at in reasons if texts[at] is not None} <= {"text has no tokens"}
    assert not any(char.isalnum() for text in wordless for char in text or "")
    entropy = scores.column("information_entropy_nats")
    assert [value is None for value in entropy.to_pylist()] == [at in reasons for at in range(len(texts))]
    assert not any(pc.is_nan(entropy.drop_null()).to_pylist())
    for at, value in enumerate(entropy.to_pylist()):
        if value == 0.0:
            assert len(set(re.findall(r"[\w']+", str(texts[at]).lower()))) == 1
