"""Owns how a label or id, which may hold any character, is shown in one line of text; draws nothing."""

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",  # a ¡ in LaTeX's own fonts
    ">": r"\textgreater{}",  # a ¿
    "|": r"\textbar{}",  # a dash
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


def printable(text: str) -> str:
    """`text` in one line, with control characters and marks that turn the writing direction made visible."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int) -> str:
    """`printable`, cut to `most` characters with an ellipsis."""
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def in_latex(text: str) -> str:
    """`text` in one line, with what LaTeX would take for a command escaped."""
    return "".join(LATEX_ESCAPES.get(char, char) for char in printable(" ".join(text.split())))
