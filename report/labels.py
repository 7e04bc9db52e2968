"""Labels and ids, which may hold any character, in one line of a terminal, of Markdown and of LaTeX."""

MARKDOWN_SPECIAL = "\\`*_|<>[]"
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "|": r"\textbar{}",  # these three are other characters in LaTeX's first font encoding
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


def printable(text: str) -> str:
    """`text` in one line, with control characters and marks that turn the writing direction made visible."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int) -> str:
    """`printable`, cut to `most` characters with an ellipsis."""
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def in_markdown(text: str) -> str:
    """`text` in one line, with what Markdown would take for formatting escaped."""
    return " ".join("".join(f"\\{char}" if char in MARKDOWN_SPECIAL else char for char in text).split())


def in_latex(text: str) -> str:
    """`text` in one line, with what LaTeX would take for a command escaped."""
    return "".join(LATEX_ESCAPES.get(char, char) for char in printable(" ".join(text.split())))
