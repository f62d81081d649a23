"""What people look at: terminal, report page, figures, dashboard. They print and draw, and do nothing else."""
