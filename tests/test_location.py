"""Names of corpora that are neither plain paths nor plain URLs: files in archives, signed web addresses."""

import gzip
import json
import os
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import euds
from euds.corpus import list_inputs, read_rows
from euds.corpus.location import file_name, file_path, reading
from euds.corpus.streams import compression
from euds.errors import InputError, RunStopped


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("b.jsonl", "a.jsonl"):
            file.writestr(name, json.dumps({"text": f"text of {name}"}) + "\n")
        file.writestr("deep/c.jsonl.gz", gzip.compress(b'{"text": "text of c"}\n'))
    return path


@pytest.mark.parametrize("where", ["{}", "file://{}"])
def test_files_of_an_archive_are_found_by_a_pattern(archive: Path, where: str) -> None:
    at = where.format(archive)
    texts = [row.fields["text"] for row in read_rows(list_inputs([f"zip://*.jsonl::{at}"])) if row.fields]
    assert texts == ["text of a.jsonl", "text of b.jsonl"]
    (row,) = read_rows(list_inputs([f"zip://deep/*::{at}"]))
    assert row.fields == {"text": "text of c"}
    with pytest.raises(InputError, match=r"zip://\*\.csv::.*: the pattern matches no file"):
        list_inputs([f"zip://*.csv::{at}"])


@pytest.mark.parametrize(
    "name", ["zip://a.jsonl::archive.zip", "zip://a*::../in/archive.zip", "zip://a*::~/archive.zip"]
)
def test_an_archive_is_found_from_every_folder(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "in").mkdir()
    archive.rename(tmp_path / "in" / "archive.zip")
    monkeypatch.setenv("HOME", str(tmp_path / "in"))
    monkeypatch.chdir(tmp_path / "in")
    euds.score(name, out="run", measures=["information"])
    monkeypatch.chdir(tmp_path)
    assert euds.select("in/run", keep=1, rule="random").n_kept == 1


def test_an_archive_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"zip://\*\.jsonl::.*none\.zip: cannot be reached: .*No such file"):
        list_inputs([f"zip://*.jsonl::{tmp_path / 'none.zip'}"])
    (tmp_path / "damaged.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"damaged\.zip: cannot be reached: .*not a zip file"):
        list_inputs([f"zip://*.jsonl::{tmp_path / 'damaged.zip'}"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Only the packages that slow tests need bring a client for web addresses.
        pytest.param("https://host/data/A.JSONL.gz?signature=a/b%2Bc.csv", "a.jsonl.gz", marks=pytest.mark.slow),
        pytest.param("http://host/a.parquet", "a.parquet", marks=pytest.mark.slow),
        ("zip://deep/c.jsonl.gz::{archive}", "c.jsonl.gz"),
        ("/data/what?.csv", "what?.csv"),
        ("/data/one::two.CSV.gz", "one::two.csv.gz"),
    ],
)
def test_the_format_follows_from_the_name_without_its_query(archive: Path, name: str, expected: str) -> None:
    path = file_path(name.format(archive=archive))
    assert file_name(path) == expected
    assert compression(path) == ("gzip" if expected.endswith(".gz") else None)


@pytest.mark.parametrize(("status", "hint"), [(403, True), (401, True), (500, False)])
def test_access_that_is_refused_on_the_way_says_so(status: int, hint: bool) -> None:
    class ClientResponseError(Exception):
        """As aiohttp's, which has a status."""

    error = ClientResponseError(f"{status}, message='no'")
    vars(error)["status"] = status
    with pytest.raises(RunStopped, match="cannot be read") as caught, reading("https://host/a.jsonl?signature=x"):
        raise error
    assert ("whether a signed address has expired" in str(caught.value)) == hint


@pytest.fixture
def plain_server(archive: Path) -> Iterator[str]:
    """A web server without range requests; the address of the folder with the archive and a file of 12 MB."""
    (archive.parent / "large.jsonl").write_text('{"text": "a b c"}\n' * 700_000)
    handler = partial(SimpleHTTPRequestHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["{}/large.jsonl", "zip://a.jsonl::{}/archive.zip", "zip://*.jsonl::{}/archive.zip"])
def test_a_server_that_serves_whole_files_only_is_named(tmp_path: Path, plain_server: str, name: str) -> None:
    name = name.format(plain_server)
    with pytest.raises(InputError, match=rf"^{re.escape(name)}: the server serves no part of a file.*; download it"):
        euds.score(name, out=tmp_path / "run", measures=["information"])


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("-", "/dev/stdin", "/dev/null", str(tmp_path / "pipe.jsonl")):
        with pytest.raises(InputError, match=rf"^{name}: standard input and pipes can be read only once, .* to a file"):
            list_inputs([name])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("https://h/a.csv", r"in a checkout run: pip install '\.\[http\]'"),
        ("s3://b/a.csv", r"in a checkout run: pip install '\.\[s3\]'"),
        ("gs://b/a.csv", "install the client"),
    ],
)
def test_a_client_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    def missing(name: str) -> None:
        raise ImportError("install the client")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=rf"^{name}: \w+:// needs a package that is not installed; {remedy}$"):
        file_path(name)


def test_a_relative_name_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for spec, said in (("none/b.jsonl", "no such file"), ("none/*.jsonl", "the pattern matches no file")):
        with pytest.raises(InputError, match=rf"^{re.escape(spec)}: {said} \({re.escape(str(tmp_path / spec))}\)$"):
            list_inputs([spec])
        with pytest.raises(InputError, match=rf"{re.escape(spec)}: {said}$"):
            list_inputs([tmp_path / spec])
    with pytest.raises(InputError, match=r"memory://none/b\.jsonl: no such file$"):
        list_inputs(["memory://none/b.jsonl"])


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_json_that_is_no_json_lines_is_explained(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('[{"text": "a"}]')
    said = r"unknown format; .*; \.json of one object a line: rename it to \.jsonl; of an array: write each object on"
    with pytest.raises(InputError, match=said):
        list_inputs([tmp_path / name])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"known suffixes: [^;]*$"):
        list_inputs([tmp_path / "a.txt"])
