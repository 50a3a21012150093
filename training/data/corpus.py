"""The two sides of a corpus: what is trained on, and what is held out to measure by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from training.config import DataConfig
from training.data.documents import Document
from training.data.errors import DataError
from training.data.reading import corpus_files, read_documents


@dataclass(frozen=True, slots=True)
class Survey:
    """What reading a corpus once has shown.

    Attributes:
        documents: on the training side, passages of text files included.
        conversations: on both sides.
        held_out: documents on the other side.
        overlap: documents that were taken out of training because they are held out.
        thumbs_down: replies that visitors did not like, left out.
        below: documents whose place is below this are held out.
    """

    documents: int
    conversations: int
    held_out: int
    overlap: int
    thumbs_down: int
    below: float

    def __str__(self) -> str:
        kinds = f"{self.documents:,} documents to train on, {self.held_out:,} held out"
        chats = f", {self.conversations:,} of them conversations" if self.conversations else ""
        overlap = f", {self.overlap:,} taken out of training as they are held out" if self.overlap else ""
        thumbs = f", {self.thumbs_down:,} replies with a thumb down left out" if self.thumbs_down else ""
        return kinds + chats + overlap + thumbs


class Corpus:
    """The documents of a config's files. Reads the files anew each time, so that none has to stay in memory.

    With files to hold out, these are the held-out side, and what is in both is taken out of training; without, a
    share of the documents is, chosen by a hash of each, so that it stays the same when files are added.

    Args:
        config: files, and what to hold out.

    Raises:
        DataError: a file is missing or of an unknown kind.
    """

    def __init__(self, config: DataConfig) -> None:
        if not config.train:
            raise DataError("no corpus is given; name files or folders in `data.train`")
        self._files = corpus_files(map(Path, config.train))
        self._held_out_files = corpus_files(map(Path, config.held_out))
        self._share = config.held_out_share

    @cached_property
    def survey(self) -> Survey:
        """One pass over all files: every one of their errors comes up here.

        Raises:
            DataError: a file cannot be used, there is nothing in them, or nothing that could be held out.
        """
        kinds = [bool(document.messages) for document in _documents(self._held_out_files)]
        held_out, conversations = len(kinds), sum(kinds)
        documents = below = overlap = thumbs_down = 0
        places = [1.0, 0.0]
        for file in self._files:
            for document in read_documents(file):
                if document is None:
                    thumbs_down += 1
                elif document.digest in self._digests:
                    overlap += 1
                else:
                    documents += 1
                    conversations += bool(document.messages)
                    place = document.place
                    below += place < self._share
                    places = [min(places[0], place), max(places[1], place)]
        if not documents:
            held = f": all of its {overlap} documents are held out" if overlap else ""
            down = f", {thumbs_down} replies with a thumb down aside" if thumbs_down else ""
            raise DataError(f"the corpus is empty{held}{down}; see `data.train`, {_names(self._files)}")
        if self._held_out_files:
            if not held_out:
                raise DataError(f"the held-out files are empty; see `data.held_out`, {_names(self._held_out_files)}")
            return Survey(documents, conversations, held_out, overlap, thumbs_down, 0.0)
        if not self._share:
            return Survey(documents, conversations, 0, overlap, thumbs_down, 0.0)
        if places[0] == places[1]:
            raise DataError(
                "the corpus is one document, too little to hold some of it out: give more, or name files in "
                "`data.held_out`, or set `data.held_out_share: 0`"
            )
        # Of a corpus so small that the share is less than a document, the first one; never all.
        limit = min(max(self._share, places[0] + 2**-53), places[1])
        below = below if limit == self._share else sum(d.place < limit for d in _documents(self._files))
        return Survey(documents - below, conversations, below, overlap, thumbs_down, limit)

    def training(self) -> Iterator[Document]:
        """What is trained on, in the order of the files."""
        below = self.survey.below
        return _side(self._files, lambda d: d.place >= below and d.digest not in self._digests)

    def held_out(self) -> Iterator[Document]:
        """What is only measured by."""
        if self._held_out_files:
            return _documents(self._held_out_files)
        below = self.survey.below
        return _side(self._files, lambda d: d.place < below)

    @property
    def size(self) -> int:
        """Bytes of the files to train on."""
        return sum(file.stat().st_size for file in self._files)

    @cached_property
    def _digests(self) -> frozenset[bytes]:
        return frozenset(document.digest for document in _documents(self._held_out_files))


def _documents(files: Iterable[Path]) -> Iterator[Document]:
    return (document for file in files for document in read_documents(file) if document is not None)


def _side(files: Iterable[Path], wanted: Callable[[Document], bool]) -> Iterator[Document]:
    """The wanted documents; none continues one that is not wanted."""
    taken = False
    for document in _documents(files):
        before, taken = taken, wanted(document)
        if taken:
            yield document if before else replace(document, continues=False)


def _names(files: list[Path]) -> str:
    return ", ".join(str(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
