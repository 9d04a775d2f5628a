"""Download a file: resumed where it broke off, checked, and there only when it is whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

CHUNK = 1 << 18


def download(url: str, path, checksum: str | None = None, timeout: float = 30) -> Path:
    """Fetch ``url`` into ``path``.

    The bytes go to ``path`` + ``.part``; a later call goes on where an earlier one stopped (HTTP
    Range). The file gets its name when it is complete and its checksum is right, so a file of that
    name is always whole. A file that is already there, with the right checksum, is kept.

    Args:
        url: where the file is.
        path: where it shall be.
        checksum: hexadecimal sha256, or ``"md5:..."`` where the owners publish only that; ``None``
            checks the length alone.
        timeout: seconds to wait for the server.

    Returns:
        ``path``.

    Raises:
        FileNotFoundError: the server has no such file (404, 410).
        PermissionError: the server refuses (401, 403), or the folder cannot be written.
        ConnectionError: no connection, a server error, or the transfer broke off.
        ValueError: what came is not the file that was expected.
    """
    path = Path(path)
    if path.exists() and _matches(path, checksum):
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        raise PermissionError(f"{path.parent} cannot be written: choose another root.") from error
    expected = _transfer(url, part, timeout)
    have = part.stat().st_size
    if expected is not None and have < expected:
        raise ConnectionError(
            f"{url} broke off after {have:,} of {expected:,} bytes: call again to resume."
        )
    if (expected is not None and have > expected) or not _matches(part, checksum):
        part.unlink()
        raise ValueError(
            f"{url} is not the file that was expected (wrong length or checksum): it was altered "
            f"on the way or replaced by its owners; the download is removed."
        )
    os.replace(part, path)
    return path


def _transfer(url: str, part: Path, timeout: float) -> int | None:
    """Append to ``part`` what is missing of ``url``; the length the whole file should have."""
    have = part.stat().st_size
    headers = {"User-Agent": "lsseg_edu", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        ) as answer:
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = None if length is None else int(length) + have * resumed
            _save(answer, part, have if resumed else 0, total)
            return total
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: part is complete, or too long
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            return int(total) if total.isdigit() else None
        raise _explained(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{url} cannot be fetched ({reason}): check the connection and call again; "
            f"what has arrived is kept."
        ) from error


def _save(answer, part: Path, start: int, total: int | None) -> None:
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True) as bar,
    ):
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _explained(url: str, error: urllib.error.HTTPError) -> OSError:
    if error.code in (404, 410):
        return FileNotFoundError(f"{url} does not exist (any more): HTTP {error.code}.")
    if error.code in (401, 403):
        return PermissionError(f"{url} is refused to us: HTTP {error.code}; see its owners' page.")
    return ConnectionError(f"{url} failed on the server's side: HTTP {error.code}; try later.")


def _matches(path: Path, checksum: str | None) -> bool:
    """Whether the file has the checksum; without one, any file will do."""
    if checksum is None:
        return True
    algorithm, _, value = checksum.rpartition(":")
    digest = hashlib.new(algorithm or "sha256")
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == value.lower()
