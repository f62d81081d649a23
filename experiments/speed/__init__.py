"""What this project claims of its speed: of costs, trainings, the driver, and of a GPU."""
