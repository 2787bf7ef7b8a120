"""Mail: what is sent, through which mailer, and how it waits for its turn."""
