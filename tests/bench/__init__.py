"""`./run_pipeline.sh bench`: the pipeline beside its limit and beside what a user would pick instead, in one run, on
the same rows.
"""
