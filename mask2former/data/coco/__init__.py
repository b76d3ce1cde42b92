"""COCO's annotation files, read in one place by one set of rules.

:mod:`rules` judges single values, :mod:`masks` a segmentation; :mod:`file`, :mod:`categories`, :mod:`instances` and
:mod:`panoptic` read a file into typed entries; :mod:`ground_truth` completes what scores need. The caller decides what
a fault does (:mod:`faults`): the data sets' readers stop at the first, the checks list all of them.
"""
