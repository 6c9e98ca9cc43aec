"""What is said to people: messages, and links to reports."""
