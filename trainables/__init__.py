"""What is fitted: tasks, students, teachers, objectives, selectors and the training loop."""
