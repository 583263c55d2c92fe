"""What is measured, a module for each subject.

Each has `run(bench) -> dict`, JSON that says what was measured with the floor of the same minutes.
"""
