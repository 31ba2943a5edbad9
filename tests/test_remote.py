"""Corpora in object stores and on web servers: moto's S3 server on loopback, read through s3fs and aiohttp."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import list_inputs, read_rows

pytestmark = pytest.mark.slow
N = 600
SECRETS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with a public bucket of three files; its address."""
    from moto.server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"id": f"r{at}", "text": f"row {at} of a corpus in a bucket {'word ' * (at % 17)}"} for at in range(N)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "a.jsonl").write_text("".join(lines[:200]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[200:400]).encode()))
    pq.write_table(pa.Table.from_pylist(rows[400:]), folder / "c.parquet", row_group_size=50)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    address = f"http://{host}:{port}"
    client = client_of(address)
    client.create_bucket(Bucket="corpus", ACL="public-read")
    for path in sorted(folder.iterdir()):
        client.upload_file(str(path), "corpus", f"data/{path.name}", ExtraArgs={"ACL": "public-read"})
    yield address
    moto.stop()


def client_of(address: str) -> Any:
    # The packages come with the extras `s3` and `slow`, which fast tests do without.
    import boto3

    return boto3.client("s3", endpoint_url=address, **SECRETS, region_name="us-east-1")


def score(inputs: Sequence[str], out: Path, address: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": address,
        **{name.upper(): value for name, value in SECRETS.items()},
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "euds", "score", *inputs, "--out", str(out), "--measures", "information", *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def local_scores(address: str, tmp_path: Path) -> pa.Table:
    """Scores of the same bytes from local files."""
    client = client_of(address)
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        client.download_file("corpus", f"data/{name}", str(tmp_path / name))
    euds.score(str(tmp_path / "[abc].*"), out=tmp_path / "local", measures=["information"])
    return scores_of(tmp_path / "local")


def scores_of(run_dir: Path) -> pa.Table:
    table = pq.read_table(run_dir / "scores")
    assert table["information_entropy_nats"].null_count == 0
    return table


def test_a_bucket_is_scored_like_the_same_files_on_disk(server: str, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    finished = score(["s3://corpus/data/*"], remote, server, "--shard-rows", "90", "--workers", "2")
    assert finished.returncode == 0, finished.stderr
    assert scores_of(remote).equals(local_scores(server, tmp_path))
    assert scores_of(remote).num_rows == N
    again = score(["s3://corpus/data/*"], remote, server, "--shard-rows", "90", "--workers", "2")
    assert again.returncode == 0, again.stderr


def test_files_on_a_web_server_are_read(server: str) -> None:
    files = list_inputs([f"{server}/corpus/data/{name}" for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")])
    rows = list(read_rows(files))
    assert [row.fields["id"] for row in rows if row.fields] == [f"r{at}" for at in range(N)]


def test_signed_addresses_are_read(server: str) -> None:
    sign = client_of(server).generate_presigned_url
    files = list_inputs(
        [sign("get_object", {"Bucket": "corpus", "Key": f"data/{name}"}) for name in ("b.jsonl.gz", "c.parquet")]
    )
    rows = list(read_rows(files))
    assert [row.fields["id"] for row in rows if row.fields] == [f"r{at}" for at in range(200, N)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("s3://corpus/data/missing.jsonl", "s3://corpus/data/missing.jsonl: no such file"),
        ("s3://corpus/nothing/*", "s3://corpus/nothing/*: the pattern matches no file"),
        ("s3://nobucket/a.jsonl", "s3://nobucket/a.jsonl: no such file"),
    ],
)
def test_what_is_not_in_the_store_is_named(server: str, tmp_path: Path, inputs: str, message: str) -> None:
    finished = score([inputs], tmp_path / "run", server)
    assert finished.returncode == 2
    assert message in " ".join(finished.stderr.split())


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    finished = score(["s3://corpus/data/*"], tmp_path / "run", "http://127.0.0.1:9")
    assert finished.returncode == 2
    assert "s3://corpus/data/*: cannot be reached: Could not connect to the endpoint URL" in finished.stderr
