"""Text that a terminal would obey, and lines that others would take for ours: to be put wherever text of others is read."""

CANARY = "\x1b]0;x\x07\x9b2J\r\n[rank 0] forged\u2028[rank 0] forged\u202e\u200b\x08"


def check_quiet(capsys):
    """What was printed, when nothing in it moves a terminal, begins like a rank's line, or is a traceback."""
    captured = capsys.readouterr()
    for text in captured:
        odd = {char for char in text if not char.isprintable()} - {"\n", "\t"}
        assert not odd, text
        assert not [line for line in text.splitlines() if line.startswith("[rank")], text
        assert "Traceback" not in text
    return captured
