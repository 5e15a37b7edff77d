"""one writer of HTML pages and Markdown."""
