"""What is made of runs afterwards: tables, figures, summaries of sweeps, and the convergence of small games."""
