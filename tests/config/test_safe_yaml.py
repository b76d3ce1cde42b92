"""read_with_bases: published files unchanged, bases as fvcore merges them, no code run."""

import pytest
import yaml
from fvcore.common.config import CfgNode

from mask2former.config.safe_yaml import ConfigError, read_with_bases


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_published_line_is_understood(tmp_path):
    line = 'INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.1 * 640) for x in range(5, 21)]"]\n'
    content = read_with_bases(write(tmp_path / "a.yaml", line))
    assert content == yaml.unsafe_load(line)
    assert content["INPUT"]["MIN_SIZE_TRAIN"][::15] == [320, 1280]


def test_bases_merge_as_in_fvcore(tmp_path):
    write(tmp_path / "deep/bottom.yaml", "A: {X: 1, Y: [1, 2], Z: {Q: 1}}\nB: 1\n")
    write(tmp_path / "deep/middle.yaml", "_BASE_: bottom.yaml\nA: {Y: [3], Z: {R: 2}}\n")
    write(tmp_path / "other.yaml", "B: {K: 1}\nC: text\n")
    write(tmp_path / "empty.yaml", "{}\n")
    path = write(tmp_path / "top.yaml", "_BASE_: [deep/middle.yaml, empty.yaml]\nA: {X: 5}\nD: null\n")
    assert read_with_bases(path) == CfgNode.load_yaml_with_base(path)
    assert read_with_bases(path)["A"] == {"X": 5, "Y": [3], "Z": {"Q": 1, "R": 2}}
    clash = write(tmp_path / "clash.yaml", "_BASE_: [deep/middle.yaml, other.yaml]\n")
    with pytest.raises(ConfigError, match=r"clash\.yaml: B has keys"):
        read_with_bases(clash)


@pytest.mark.parametrize("size", [512, 640, 1024, 2048])
def test_lists_of_sizes_are_pythons(tmp_path, size):
    text = f"[int(x * 0.1 * {size}) for x in range(5, 21)]"
    path = write(tmp_path / "a.yaml", f'A: !!python/object/apply:eval ["{text}"]\n')
    assert read_with_bases(path) == {"A": eval(text)}


@pytest.mark.parametrize(
    "text",
    [
        "[int(x * 0.1 * 10 ** 9) for x in range(5, 21)]",
        "[int(x * 0.1 * 640) for x in range(5, 10 ** 9)]",
        "[int(x * 0.1 * 640) for x in range(5, 999999999)]",
        "[int(x * 0.1 * 640) for x in range(5, 21)] + [1]",
        "max(x for x in range(10 ** 12))",
        "9 ** 9 ** 9",
        "1",
    ],
)
def test_other_expressions_are_refused_with_what_to_write(tmp_path, text):
    path = write(tmp_path / "a.yaml", f'A:\n  B: !!python/object/apply:eval ["{text}"]\n')
    with pytest.raises(ConfigError, match=r"a\.yaml, line 2: refused to evaluate .*write the value itself") as error:
        read_with_bases(path)
    assert text[:80] in str(error.value)


BOMB = [
    "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
    *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)),
]
MERGED = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n".join(BOMB), "more than 20,000 values"),
        ("\n".join(MERGED), "more than 20,000 values"),
        ("A: &a [*a]\n", "more than 20,000 values"),
        ("A: " + "1:" * 40_000 + "1\n", "line 1: a number of more than 100 digits"),
        ("A: " + "9" * 5000 + "\n", "line 1: a number of more than 100 digits"),
        ("A: 2001-99-99\n", "not valid YAML"),
        ("A: " + "[" * 20_000 + "\n", "more than 100 levels"),
        ("# " + "x" * 1_000_000 + "\n", "longer than 1,000,000 characters"),
        ("_BASE_: http://127.0.0.1:9/a.yaml\n", "Download that file"),
        ("_BASE_: .\n", "cannot be read"),
    ],
    ids=lambda value: value[:20],
)
def test_what_would_take_for_ever_is_refused(tmp_path, text, says):
    with pytest.raises(ConfigError, match=r"(?s)a\.yaml.*" + says):
        read_with_bases(write(tmp_path / "a.yaml", text))


def test_aliases_and_merged_keys_within_reason(tmp_path):
    text = "A: &a {X: 1, Y: [1, 2]}\nB: {<<: *a, X: 3}\nC: *a\nD: 1:30\n"
    assert read_with_bases(write(tmp_path / "a.yaml", text)) == yaml.safe_load(text)


def test_files_that_name_each_other_over_and_over(tmp_path):
    for level in range(12):
        write(tmp_path / f"{level}.yaml", f"_BASE_: [{level + 1}.yaml, {level + 1}.yaml]\n")
    write(tmp_path / "12.yaml", "A: 1\n")
    with pytest.raises(ConfigError, match="more than 100 files"):
        read_with_bases(str(tmp_path / "0.yaml"))


@pytest.mark.parametrize("where", ["absolute", "home"])
def test_base_by_absolute_path_and_home(tmp_path, monkeypatch, where):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    base = write(tmp_path / "home/base.yaml", "A: 1\n")
    path = write(tmp_path / "a.yaml", f"_BASE_: {base if where == 'absolute' else '~/base.yaml'}\n")
    assert read_with_bases(path) == {"A": 1}


def test_file_based_on_itself(tmp_path):
    write(tmp_path / "b.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(ConfigError, match="leads back to itself"):
        read_with_bases(write(tmp_path / "a.yaml", "_BASE_: b.yaml\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A: 1\nB: !!python/object/apply:os.getcwd []\n", r"line 2: .*!!python run code.*--allow-unsafe-config"),
        ("A: 1\nB: !!python/name:os.system\n", r"line 2: .*--allow-unsafe-config"),
        ("A: 1\nB: !!python/object/new:list [[1]]\n", r"line 2: .*--allow-unsafe-config"),
        (
            "A: 1\nB: !!python/object/apply:eval [\"__import__('os')\"]\n",
            r"line 2: refused to evaluate .__import__\('os'\)",
        ),
        ('A: 1\nB: !!python/object/apply:eval ["1", {}]\n', "line 2: eval takes a list of one string"),
        ("A: 1\nB: !!python/object/apply:eval [[1]]\n", "line 2: eval takes a list of one string"),
        ("A: 1\nB: !!python/object/apply:eval {args: ['1']}\n", "line 2: eval takes a list of one string"),
        ("A: 1\nB: !mine 3\n", r"line 2: not valid YAML: .*!mine"),
        ("A: [1\nB: 2\n", r"line 2: not valid YAML"),
        ("- 1\n", "holds a list"),
        ("_BASE_: 5\n", "_BASE_ has to be a path"),
        ("_BASE_: [{a: 1}]\n", "_BASE_ has to be a path"),
        ("A: \x01\n", "not valid YAML"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path, text, says):
    with pytest.raises(ConfigError, match=r"(?s)a\.yaml.*" + says):
        read_with_bases(write(tmp_path / "a.yaml", text))


def test_code_runs_only_when_asked(tmp_path, caplog):
    made = tmp_path / "made"
    path = write(tmp_path / "a.yaml", f"A: !!python/object/apply:os.mkdir [{str(made)!r}]\n")
    with pytest.raises(ConfigError):
        read_with_bases(path)
    assert not made.exists() and not caplog.text
    assert read_with_bases(path, allow_unsafe=True) == {"A": None}
    assert made.exists() and "may run code" in caplog.text
    with pytest.raises(ConfigError, match=r"a\.yaml: .*the code in it fails.*made"):
        read_with_bases(path, allow_unsafe=True)
