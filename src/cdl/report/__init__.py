"""a page as data, its charts, and its two writers: HTML and Markdown."""
