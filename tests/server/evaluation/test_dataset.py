import gc
import json
import os
import random
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from pydantic import JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.dataset import Dataset, load_dataset
from bayesflow_server.evaluation.example import Example

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def problems(dataset: Dataset) -> list[str]:
    return [row.problem for row in dataset.rows]


def refusal(
    examples: str | list[dict[str, JsonValue]], fields: dict[str, str] | None = None
) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(examples, fields)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", ")."))
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"input": "p", "target": "1"}\n{"input": "q", "target": "2"}\n'),
        ("a.jsonl", '\ufeff{"input": "p", "target": "1"}\r\n\r\n{"input": "q", "target": "2"}'),
        ("a.json", '[{"input": "p", "target": "1"}, {"input": "q", "target": "2"}]'),
        ("a.json", '{"examples": [{"input": "p", "target": "1"}, {"input": "q", "target": "2"}]}'),
        ("a.json", '{"input": "p", "target": "1"}\n{"input": "q", "target": "2"}\n'),
        ("a.jsonl", '[\n{"input": "p", "target": "1"},\n{"input": "q", "target": "2"}]'),
        ("a.csv", "input,target\np,1\nq,2\n"),
        ("a.csv", "\ufeffinput;target\r\np;1\r\n\r\nq;2"),
        ("a.tsv", "input\ttarget\np\t1\nq\t2\n"),
        ("rows", '{"input": "p", "target": "1"}\n{"input": "q", "target": "2"}'),
    ],
)
def test_every_format_reads_the_same_rows(write: Write, name: str, content: str) -> None:
    dataset = load_dataset(write(name, content))
    assert [(row.problem, row.target) for row in dataset.rows] == [("p", "1"), ("q", "2")]
    assert (
        dataset.content_hash
        == load_dataset([{"input": "q", "target": "2"}, {"input": "p", "target": "1"}]).content_hash
    )


def test_a_line_separator_inside_a_json_string_does_not_end_the_line(write: Write) -> None:
    dataset = load_dataset(write("a.jsonl", '{"input": "one\u2028two", "target": "1"}\n'))
    assert problems(dataset) == ["one\u2028two"]


def test_a_quoted_csv_cell_may_hold_commas_and_line_breaks(write: Write) -> None:
    dataset = load_dataset(write("a.csv", 'question,answer\n"a, b\nc",1\n'))
    assert problems(dataset) == ["a, b\nc"]


def test_a_relative_path_says_why_it_must_be_absolute() -> None:
    message = refusal("faq.jsonl")
    assert "not absolute" in message
    assert "cannot see files attached to a chat" in message
    assert "inline" in message


def test_a_missing_file_a_directory_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    assert "no dataset file" in refusal(str(tmp_path / "no.jsonl"))
    assert "is a directory" in refusal(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(str(tmp_path / "pipe"))
    assert "cannot be read" in refusal(str(tmp_path / "nul\0"))
    assert "cannot be read" in refusal(str(tmp_path / ("x" * 5000)))


def test_a_file_that_is_too_large_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayesflow_server.evaluation.formats.MAX_BYTES", 10)
    assert "larger than" in refusal(write("a.jsonl", '{"input": "long enough"}'))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\ufeff\r\n\n", "is empty"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "input,target\n", "holds no rows"),
        ("a.jsonl", b'{"input": "p"}\n{"input": "caf\xe9"}', "line 2 holds the byte 0xe9"),
        ("a.jsonl", '{"input": "p"}\n\n{"input": p}\n', "Line 3"),
        ("a.jsonl", '{"input": "p"}\n{"input": "q",\n', "Line 2"),
        ("a.jsonl", '{"input": "p", "target": NaN}', "NaN is not JSON"),
        ("a.jsonl", '{"input": ' + "9" * 5000 + "}", "thousands of digits; make it a text"),
        ("a.jsonl", '{"input": ' + "[" * 100000, "nested too deeply"),
        ("a.jsonl", '{"input": "p"}\n"q"\n', "Line 2"),
        ("a.jsonl", '{"input": "p"}\n"q"\n', "a string, not an object"),
        ("a.json", '[{"input": "p"}, 3]', "Row 2"),
        ("a.json", '{"rows": []}', '"examples"'),
        ("a.json", '{"examples": [', "not JSON"),
        ("a.csv", "input,target\np,1,2\n", "has 3 cells where the header has 2"),
        ("a.csv", 'input,target\n"p,1\n', "not CSV"),
        ("a.csv", "input,input\np,1\n", "repeated column name"),
        ("a.csv", "input,\np,1\n", "empty or repeated column name"),
        ("a.txt", "What is this?", "no known format"),
        ("a.jsonl", '{"input": "half \\ud800"}', "surrogate"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(
    write: Write, name: str, content: str | bytes, expected: str
) -> None:
    assert expected in refusal(write(name, content))


def test_a_missing_field_names_the_row_and_the_fields_it_has(write: Write) -> None:
    path = write("a.jsonl", '{"question": "p", "answer": 1}\n\n{"question": "q", "anwser": 2}\n')
    message = refusal(path)
    assert "Line 3" in message
    assert "'answer'" in message
    assert "'question', 'anwser'" in message


def test_a_mapped_field_that_no_row_has_suggests_the_nearest() -> None:
    message = refusal([{"question": "p", "answer": "1"}], {"input": "qestion"})
    assert "'qestion'" in message
    assert "did you mean 'question'?" in message


def test_rows_without_anything_like_an_input_say_which_fields_they_have() -> None:
    message = refusal([{"body": "p", "answer": "1"}])
    assert "no field that looks like an input" in message
    assert "'body'" in message
    assert "no field" in refusal([{}])


def test_an_input_mapped_twice_is_refused() -> None:
    rows: list[dict[str, JsonValue]] = [{"q": "p", "context": "c"}]
    assert "either one 'input'" in refusal(rows, {"input": "q", "context": "context"})


@pytest.mark.parametrize("value", ["", "  ", None, {"a": " ", "b": ""}, {}])
def test_an_empty_input_names_its_row(value: JsonValue) -> None:
    message = refusal([{"input": "fine"}, {"input": value}])
    assert "row 2" in message
    assert "empty" in message


def test_an_input_that_is_a_list_is_refused() -> None:
    assert "is a list" in refusal([{"input": ["p"]}])


def test_duplicate_ids_name_both_rows(write: Write) -> None:
    message = refusal(write("a.jsonl", '{"id": 7, "input": "p"}\n\n{"id": "7", "input": "q"}\n'))
    assert "Lines 1 and 3" in message
    assert "'7'" in message


@pytest.mark.parametrize("name", [None, "", True, 1.5, ["x"]])
def test_an_id_that_is_no_name_is_refused(name: JsonValue) -> None:
    assert "The id in row 1" in refusal([{"id": name, "input": "p"}])


def test_a_made_id_cannot_collide_with_a_given_one_silently() -> None:
    made = load_dataset([{"input": "p"}]).rows[0].id
    rows = load_dataset([{"input": "q", "id": "a"}, {"input": "p"}]).rows
    assert [row.id for row in rows] == ["a", made]
    assert "same id" in refusal([{"input": "p"}, {"input": "q", "id": made}])
    assert "looks like one" in refusal([{"input": "q", "id": made}, {"input": "p"}])


def test_an_unknown_split_lists_the_known_ones() -> None:
    message = refusal([{"input": "p", "split": "tset"}])
    assert "'tset' in row 1" in message
    assert "did you mean 'test'?" in message
    assert "unknown" in refusal([{"input": "p", "split": 3}])


def test_split_synonyms_are_understood() -> None:
    names = ["train", "dev", "VAL", "validation", "selection", "test", None, ""]
    rows = load_dataset([{"input": str(n), "split": name} for n, name in enumerate(names)]).rows
    assert [row.split for row in rows] == [
        "demonstration",
        *["validation"] * 3,
        "selection",
        "test",
        None,
        None,
    ]


def test_no_rows_and_too_many_inline_rows_are_refused() -> None:
    assert "empty" in refusal([])
    assert "201 inline examples" in refusal([{"input": str(n)} for n in range(201)])


def test_guesses_are_reported() -> None:
    dataset = load_dataset([{"Question": "p", "Answer": "1", "context": "c"}])
    assert dataset.fields == {"input": "Question", "target": "Answer"}
    assert any("'Question' was taken as the input" in guess for guess in dataset.guesses)
    assert any("'Answer' was taken as the target" in guess for guess in dataset.guesses)
    assert any("No workflow sees 'context'" in guess for guess in dataset.guesses)


def test_our_own_names_are_no_guess() -> None:
    dataset = load_dataset([{"input": "p", "target": "1", "id": "a"}])
    assert dataset.guesses == ()


def test_the_more_common_candidate_is_the_input() -> None:
    dataset = load_dataset([{"prompt": "p", "text": "odd"}, {"prompt": "q"}])
    assert problems(dataset) == ["p", "q"]


def test_named_inputs_are_kept_and_rendered_in_the_order_given() -> None:
    row = load_dataset(
        [{"q": "Who?", "passage": "Ann did.", "answer": "Ann"}],
        {"context": "passage", "question": "q"},
    ).rows[0]
    assert row.inputs == {"context": "Ann did.", "question": "Who?"}
    assert row.problem == "context: Ann did.\n\nquestion: Who?"
    assert row.meta == {}


def test_an_input_object_is_rendered_the_same_way() -> None:
    row = load_dataset([{"input": {"a": "1", "b": ["x", "y"]}}]).rows[0]
    assert row.problem == 'a: 1\n\nb: ["x", "y"]'
    assert row.inputs == {"a": "1", "b": '["x", "y"]'}


def test_other_fields_become_meta_beside_meta_itself() -> None:
    row = load_dataset(
        [{"input": "p", "target": 1, "level": 5, "meta": {"group": "g", "src": "s"}}]
    ).rows[0]
    assert row.meta == {"level": 5, "group": "g", "src": "s"}
    assert row.group == "g"


def test_a_column_called_group_ties_rows_only_when_mapped() -> None:
    rows: list[dict[str, JsonValue]] = [{"input": "p", "group": 1, "meta": "free text"}]
    assert load_dataset(rows, {"group": "group"}).rows[0].group == "1"
    unmapped = load_dataset(rows).rows[0]
    assert unmapped.meta["group"] == 1
    assert unmapped.meta["meta"] == "free text"


def test_example_models_are_taken_inline() -> None:
    dataset = load_dataset(
        [Example(input={"a": "x"}, target=3, split="dev"), Example(input="y", target=4)]
    )
    assert [row.problem for row in dataset.rows] == ["a: x", "y"]


def test_a_blank_target_is_no_target(write: Write) -> None:
    dataset = load_dataset(write("a.csv", "input,target\np,\nq,2\n"))
    assert [row.target for row in dataset.rows] == [None, "2"]


def test_repeated_rows_get_their_own_ids_and_a_warning() -> None:
    dataset = load_dataset([{"input": "p", "target": "1"}] * 3)
    assert len({row.id for row in dataset.rows}) == 3
    assert dataset.warnings[0].startswith("2 rows")
    one = load_dataset([{"input": "p", "target": "1"}] * 2)
    assert one.warnings[0].startswith("A row of the inline rows repeats another")


def test_the_content_hash_follows_content_and_not_order() -> None:
    rows: list[dict[str, JsonValue]] = [{"input": str(n), "target": n} for n in range(20)]
    shuffled = random.Random(1).sample(rows, k=len(rows))
    assert load_dataset(rows).content_hash == load_dataset(shuffled).content_hash
    changes: list[dict[str, JsonValue]] = [{"target": 21}, {"split": "test"}, {"extra": 1}]
    for changed in changes:
        other = [*rows[:-1], rows[-1] | changed]
        assert load_dataset(other).content_hash != load_dataset(rows).content_hash


def test_ids_made_from_content_do_not_depend_on_order() -> None:
    rows: list[dict[str, JsonValue]] = [{"input": str(n), "target": n} for n in range(20)]
    ids = {row.problem: row.id for row in load_dataset(rows).rows}
    assert ids == {row.problem: row.id for row in load_dataset(rows[::-1]).rows}


def test_loading_twice_gives_equal_rows(write: Write) -> None:
    lines = [json.dumps({"question": f"q{n}", "answer": n, "tags": [n]}) for n in range(30)]
    path = write("a.jsonl", "\n".join(lines))
    assert load_dataset(path) == load_dataset(path)


@pytest.mark.parametrize(
    ("target", "meta"),
    [
        ("x", {}),
        ('a "quoted" text,\n\ta café and \x1f \u2028', {"b": "2", "a": "café"}),
        (1.5, {"b": 1, "a": None}),
        (None, {"deep": {"b": [1, {"d": 1, "c": True}], "a": ""}}),
        (["x", 2], {"text": "one", "other": 1}),
        ({"b": 1, "a": "é"}, {"": ""}),
    ],
)
def test_an_id_is_made_from_the_rows_canonical_json(
    target: JsonValue, meta: dict[str, JsonValue]
) -> None:
    row = load_dataset([{"input": "q", "target": target, **meta}]).rows[0]
    content = json.dumps(["", "q", target, None, None, meta], sort_keys=True, ensure_ascii=False)
    assert row.id == blake2b(content.encode(), digest_size=8).hexdigest()


def test_memory_is_looked_after_again_once_a_dataset_is_open_or_refused() -> None:
    load_dataset([{"input": "q"}])
    assert gc.isenabled()
    with pytest.raises(InputError):
        load_dataset([{"input": ""}])
    assert gc.isenabled()


def test_inputs_that_no_call_can_hold_are_warned_of() -> None:
    texts = ["é" * 500_000, "é" * 500_001, "short"]
    dataset = load_dataset([{"input": text, "target": "1"} for text in texts])
    assert dataset.warnings == (
        "1 of 3 rows have inputs longer than 1,000,000 bytes, which no workflow can pass to a "
        "model whole: shorten them.",
    )
