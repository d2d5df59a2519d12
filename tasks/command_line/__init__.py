"""What ./run_pipeline.sh offers beside the tasks."""
