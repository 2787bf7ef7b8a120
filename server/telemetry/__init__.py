"""What operators see: metrics, traces, and one app's calls live."""
