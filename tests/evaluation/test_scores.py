"""The short list of scores."""

from mask2former.evaluation import score_table, summarize

RESULTS = {
    "panoptic_seg": {"PQ": 71.0, "SQ": 80.0, "RQ": 85.0, "PQ_th": 65.0, "PQ_st": 90.0},
    "bbox": {"AP": 55.0, "AP50": 70.0},
    "segm": {"AP": 52.0, "AP50": 72.0, "AP-cup": 40.0},
    "sem_seg": {"mIoU": 88.0, "pACC": 97.0, "IoU-cup": 60.0},
}


def test_main_scores_of_one_data_set():
    assert summarize(RESULTS) == [
        ("PQ", 71.0),
        ("PQ of things", 65.0),
        ("PQ of stuff", 90.0),
        ("mask AP", 52.0),
        ("mask AP50", 72.0),
        ("box AP", 55.0),
        ("mIoU", 88.0),
        ("pixel accuracy", 97.0),
    ]


def test_several_data_sets_keep_their_names():
    assert summarize({"a": {"segm": {"AP": 1.0}}, "b": {"sem_seg": {"IoU": 2.0}}}) == [
        ("a: mask AP", 1.0),
        ("b: mIoU", 2.0),
    ]


def test_nothing():
    assert summarize({}) == []
    assert summarize({"a": {}}) == []


def test_table_is_readable():
    lines = score_table(RESULTS).splitlines()
    assert any(line.split() == ["PQ", "71.00"] for line in lines)
