"""What a call is, and what wraps around it. Imports nothing of ours."""
