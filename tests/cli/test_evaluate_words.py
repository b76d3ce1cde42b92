"""Compare the words of `mask2former evaluate` with those that `train`, which it runs, reads."""

from mask2former_cli import evaluate, train


def test_evaluate_gives_all_that_train_reads() -> None:
    read = vars(train.parser("train").parse_args([]))
    given = vars(evaluate.parser("evaluate").parse_args(["--model", "a"]))
    assert not set(read) - set(given)
