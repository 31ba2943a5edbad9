"""Files that begin in an unusual way: with a long zstd window."""

from pathlib import Path

import pytest

from euds.corpus import check_inputs
from euds.errors import InputError


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_zstd_window_that_is_too_long_to_be_read_is_no_damage(tmp_path: Path, kind: str) -> None:
    content = b'{"text": "a"}\n' if kind == "jsonl" else b"text\na\n"
    # A frame with a window of 2 GiB, as of `zstd --long=31`, and one raw block, the last.
    block = (len(content) << 3 | 1).to_bytes(3, "little") + content
    path = tmp_path / f"a.{kind}.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([31 - 10 << 3]) + block)
    with pytest.raises(InputError, match=rf"a.{kind}.zst: a zstd file with a window .* 128 MiB .* zstd -d --long=31"):
        check_inputs([path])
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([27 - 10 << 3]) + block)
    check_inputs([path])
