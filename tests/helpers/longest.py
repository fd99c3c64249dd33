"""The order in which pytest-xdist begins the files."""

LONGEST = (
    "training/test_resume.py",
    "studies/test_executor.py",
    "training/test_several_machines.py",
    "training/test_replicas.py",
    "building/test_memory.py",
    "serving/test_tf_serving.py",
    "training/test_interrupted.py",
    "project/test_benchmarks.py",
    "exporting/test_exporter.py",
    "inference/test_predict.py",
    "studies/test_reproduction.py",
    "studies/test_search.py",
    "workers/test_stream_task.py",
    "training/test_experiment.py",
    "building/test_build.py",
    "building/test_interrupted.py",
    "training/test_stage_models.py",
    "training/test_recipes.py",
    "studies/test_reproduction_interrupted.py",
)
"""Files whose tests take longest, begun first, so that no process of pytest-xdist is left with one of them at the end.

Files that need `toy_study` stand apart: of two that start together, one would wait for the other to make it.
"""
