"""What ./run_pipeline.sh offers besides the tasks."""
