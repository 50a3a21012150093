"""One file of the hub, fetched so that an interrupted download goes on where it ended.

huggingface_hub gives that up: since its version 2 it writes to a file of a random name and starts anew. So the content
is fetched here, to where its cache keeps contents (`blobs/`, named by their ETag), and it finds it there.
Source of the layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# The ETag of a file in large file storage, such as weights, is this hash of it.
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_blob(name: str, file: str, revision: str, cache: Path, bar: type) -> None:
    """Fetch the content of a file, unless the cache has it.

    Args:
        name: of the model.
        file: its path in the model's repository.
        revision: a commit.
        cache: the hub's cache.
        bar: tqdm's interface; told of the bytes, those of an earlier try included.

    Raises:
        OSError: it can't be written, or is not what the hub has announced.
        HTTPError: of huggingface_hub; the hub can't be reached or refuses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    url = hf_hub_url(name, file, revision=revision)
    announced = get_hf_file_metadata(url)
    if not announced.etag:
        raise OSError(f"{url} has no ETag")
    blobs = cache / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    blob, part = blobs / announced.etag, blobs / f"{announced.etag}.part"
    with WeakFileLock(f"{part}.lock"):
        if blob.exists():
            return
        with part.open("ab") as content:
            http_get(
                url,
                content,
                resume_size=content.tell(),
                headers=build_hf_headers(),
                expected_size=announced.size,
                tqdm_class=bar,
            )
        if _SHA256.fullmatch(announced.etag) and _sha256(part) != announced.etag:
            part.unlink()
            raise OSError(f"{file} came damaged and was thrown away")
        part.replace(blob)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
