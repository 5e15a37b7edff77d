"""Foreign text made harmless for where it is shown."""


def terminal(text: str) -> str:
    """Text without control characters: a name cannot move the cursor or colour the screen. Line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
