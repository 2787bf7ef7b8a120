"""Services over the control plane's catalogue, a module each."""
