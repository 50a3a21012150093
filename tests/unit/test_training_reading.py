"""A corpus as it is read: its shapes, its encodings, and what is said of one that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.feedback import line_of
from app.storage.records import Step, Thumb
from training.config import DataConfig
from training.data.corpus import Corpus
from training.data.documents import Document, document_of
from training.data.errors import DataError
from training.data.reading import corpus_files, read_documents

QUESTION, ANSWER = {"role": "user", "content": "Привет"}, {"role": "assistant", "content": "Здравствуйте!"}


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    def write(*values: object) -> Path:
        file = tmp_path / "corpus.jsonl"
        file.write_text("\n".join(json.dumps(value) for value in values) + "\n", encoding="utf-8")
        return file

    return write


def read(file: Path) -> list[Document | None]:
    return list(read_documents(file))


def test_each_shape_of_a_line_becomes_a_document(lines: Callable[..., Path]) -> None:
    file = lines(
        {"messages": [QUESTION, ANSWER]}, {"text": "Plain.", "source": "x"}, {"prompt": "a", "completion": "b"}
    )
    chat, text, pair = read(file)
    assert chat == Document(messages=(QUESTION, ANSWER))
    assert text == Document(text="Plain.")
    assert pair is not None
    assert [message["content"] for message in pair.messages] == ["a", "b"]


def test_a_question_after_the_last_answer_is_left_out(lines: Callable[..., Path]) -> None:
    (document,) = read(lines({"messages": [QUESTION, ANSWER, QUESTION]}))
    assert document is not None
    assert document.messages == (QUESTION, ANSWER)


def feedback(value: int, comment: str = "") -> dict[str, object] | None:
    """As the app writes it."""
    steps = [
        Step(id=str(at), thread_id="t", type=kind, output=text, created_at="2026-11-01T00:00:00Z", metadata={})
        for at, (kind, text) in enumerate(
            [("user_message", "one"), ("assistant_message", "1"), ("user_message", "two"), ("assistant_message", "2")]
        )
    ]
    thumb = Thumb("t", "3", value, comment or None, "2026-11-01T00:00:00Z")
    return line_of(thumb, steps)


def test_of_the_feedback_export_only_liked_replies_are_learnt(lines: Callable[..., Path]) -> None:
    up, down = read(lines(feedback(1), feedback(0, "It is 3.")))
    assert down is None
    assert up is not None
    assert up.last_only
    assert [message["content"] for message in up.messages] == ["one", "1", "two", "2"]


def test_liked_replies_of_one_conversation_are_on_one_side() -> None:
    short = {"prompt": "one", "messages": [], "reply": "1", "thumb": "up"}
    assert Document(messages=(QUESTION, ANSWER)).place != Document(messages=(QUESTION, ANSWER) * 2).place
    first, second = document_of(short, "x"), document_of(feedback(1) or {}, "x")
    assert first is not None
    assert second is not None
    assert first.place == second.place


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            {"question": "a", "answer": "b"},
            r"line 2: a line with the keys answer, question is not known; a line is one",
        ),
        ([1], "line 2: not an object"),
        ({"messages": []}, "line 2: `messages` is not a list of messages"),
        ({"messages": ["a"]}, r"line 2: message 1 is not \{\"role\""),
        ({"messages": [QUESTION]}, "line 2: the conversation has no message of the assistant"),
        ({"messages": [QUESTION, {"role": "bot", "content": ""}]}, "line 2: the role of message 2 is 'bot'"),
        ({"messages": [QUESTION, {"role": "assistant", "content": None}]}, "the content of message 2 is not a text"),
        ({"text": 5}, "line 2: `text` is not a text"),
        ({"text": "a\ud83d"}, "line 2: `text` has half of a surrogate pair"),
        ({"thumb": "sideways", "reply": "a", "prompt": "b"}, "line 2: `thumb` is 'sideways'"),
    ],
)
def test_a_wrong_line_is_named(lines: Callable[..., Path], line: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(lines({"text": "good"}, line))


def test_broken_json_is_named_with_its_column(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n\n{"text": "b"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: no JSON: .* \(column 13\)"):
        read(file)


@pytest.mark.parametrize("suffix", ["txt", "md"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, suffix: str, mark: bytes) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(mark + "Строка\r\nвторая".encode())
    assert read(file) == [Document(text="Строка\nвторая")]


def test_a_byte_order_mark_before_json_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n')
    assert read(file) == [Document(text="a")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Привет".encode("cp1251"), "byte 0: the byte is 0xcf.*iconv -f WINDOWS-1251 -t UTF-8 a.txt > new.txt"),
        (b"x" * 70_000 + "é".encode("latin-1"), "byte 70000: the byte is 0xe9"),
        ("я".encode() * 40_000 + "я".encode()[:1], "byte 80000: the byte is 0xd1"),
        ("Hello".encode("utf-16"), "byte 0: it begins as UTF-16 does.*iconv -f UTF-16"),
        ("Hello".encode("utf-16-le"), "byte 1: the byte is zero"),
    ],
)
def test_another_encoding_is_named_with_its_byte_and_a_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"a.txt is not UTF-8 at {said}"):
        read(file)


def test_another_encoding_is_named_in_json_lines_too(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "a"}\n' + '{"text": "я"}\n'.encode("cp1251"))
    with pytest.raises(DataError, match=r"a\.jsonl is not UTF-8 at byte 24: the byte is 0xff"):
        read(file)


@given(st.text(st.sampled_from("abя \n"), max_size=30).map(lambda text: text * 700))
def test_passages_of_a_text_are_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text(text, encoding="utf-8", newline="")
    documents = [document for document in read_documents(file) if document is not None]
    whole = "".join(document.text for document in documents)
    assert "".join(whole.split()) == "".join(text.split())
    assert [document.continues for document in documents] == [number > 0 for number in range(len(documents))]
    assert all(len(document.text) <= 8_000 for document in documents)


def test_a_folder_is_read_by_name_with_its_folders_and_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.txt", "in/a.md", ".hidden.txt", "a.jsonl", "picture.png"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert [file.name for file in corpus_files([tmp_path, tmp_path / "b.txt"])] == ["a.jsonl", "b.txt", "a.md"]


def test_a_folder_or_file_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has nothing in it"):
        corpus_files([tmp_path])
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(DataError, match=r"has 1 files of other kinds in it; put \.jsonl, \.txt, \.md files there"):
        corpus_files([tmp_path])
    with pytest.raises(DataError, match=r"a\.pdf is of an unknown kind"):
        corpus_files([tmp_path / "a.pdf"])
    with pytest.raises(DataError, match=r"b\.txt is not there"):
        corpus_files([tmp_path / "b.txt"])


def corpus(*train: Path, held_out: tuple[Path, ...] = (), share: float = 0.05) -> Corpus:
    names, held = (tuple(map(str, paths)) for paths in (train, held_out))
    return Corpus(DataConfig(train=names, held_out=held, held_out_share=share))


def test_what_is_held_out_stays_so_when_files_are_added(tmp_path: Path) -> None:
    def write(name: str, numbers: range) -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps({"text": f"text {number}"}) + "\n" for number in numbers), encoding="utf-8")
        return file

    first, second = write("b.jsonl", range(400)), write("a.jsonl", range(400, 1000))
    before, after = corpus(first), corpus(second, first)
    held = {document.text for document in before.held_out()}
    assert 5 < len(held) < 60
    assert held < {document.text for document in after.held_out()}
    assert held.isdisjoint(document.text for document in after.training())
    assert after.survey.documents + after.survey.held_out == 1000


def test_documents_of_held_out_files_are_taken_out_of_training_and_counted(lines: Callable[..., Path]) -> None:
    train = lines({"text": "one"}, {"text": "two"}, {"text": "three"})
    held = train.with_name("held.jsonl")
    held.write_text('{"text": "two"}\n{"text": "four"}\n', encoding="utf-8")
    both = corpus(train, held_out=(held,))
    assert [document.text for document in both.training()] == ["one", "three"]
    assert [document.text for document in both.held_out()] == ["two", "four"]
    assert both.survey.overlap == 1
    assert "1 taken out of training as they are held out" in str(both.survey)


def test_of_a_small_corpus_one_document_is_held_out(lines: Callable[..., Path]) -> None:
    small = corpus(lines({"text": "one"}, {"text": "two"}, {"text": "three"}), share=1e-9)
    assert len(list(small.held_out())) == 1
    assert len(list(small.training())) == 2


def test_a_passage_whose_beginning_is_on_the_other_side_does_not_continue_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\n".join(f"{number} " * 500 for number in range(100)), encoding="utf-8")
    split = corpus(file, share=0.3)
    held = list(split.held_out())
    assert any(document.continues for document in split.training())
    assert [document.continues for document in held].count(False) > 1


def test_an_empty_corpus_is_named(lines: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the corpus is empty; see `data.train`, .*empty\.txt"):
        _ = corpus(tmp_path / "empty.txt").survey
    with pytest.raises(DataError, match="the corpus is empty, 1 replies with a thumb down aside"):
        _ = corpus(lines(feedback(0))).survey
    with pytest.raises(DataError, match="the corpus is one document"):
        _ = corpus(lines({"text": "one"}, {"text": "one"})).survey
    with pytest.raises(DataError, match="the held-out files are empty"):
        _ = corpus(lines({"text": "one"}), held_out=(tmp_path / "empty.txt",)).survey
    with pytest.raises(DataError, match="all of its 1 documents are held out"):
        _ = corpus(lines({"text": "one"}), held_out=(lines({"text": "one"}),)).survey
