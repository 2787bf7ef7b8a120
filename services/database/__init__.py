"""The deployment: MongoDB clients, collections and their guards, and the lean command path."""
