"""Text of the pages of a PDF as Chromium writes it: enough of the format to read what was printed."""

import re
import unicodedata
import zlib

_OBJECT = re.compile(rb"(?:^|\s)(\d+) 0 obj\b(.*?)endobj", re.DOTALL)
_STREAM = re.compile(rb"stream\r?\n(.*?)\nendstream", re.DOTALL)
_FONT_OR_TEXT = re.compile(rb"/(\w+) [\d.]+ Tf|<([0-9A-Fa-f]+)>")
_PAIR = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>(?:\s*<([0-9A-Fa-f]+)>)?")


def pages_of(content):
    """Text of each page without spaces, in the order in which it is drawn."""
    objects = {int(number): body for number, body in _OBJECT.findall(content)}
    pages = [body for body in objects.values() if re.search(rb"/Type\s*/Page\b", body)]
    return ["".join(unicodedata.normalize("NFKC", _text(page, objects)).split()) for page in pages]


def _text(page, objects):
    resources = _entry(page, b"Resources", objects)
    fonts = {
        name: _letters(objects[int(number)], objects)
        for name, number in re.findall(rb"/(\w+) (\d+) 0 R", _entry(resources, b"Font", objects))
    }
    found, letters = [], {}
    for font, text in _FONT_OR_TEXT.findall(_stream(_entry(page, b"Contents", objects))):
        if font:
            letters = fonts.get(font, {})
        else:
            codes = [int(text[at : at + 4], 16) for at in range(0, len(text), 4)]
            found.append("".join(letters.get(code, "") for code in codes))
    return "".join(found)


def _entry(body, name, objects):
    """A dictionary, in place or referred to."""
    referred = re.search(rb"/" + name + rb"\s+(\d+) 0 R", body)
    if referred:
        return objects[int(referred[1])]
    inline = re.search(rb"/" + name + rb"\s*<<(.*?)>>", body, re.DOTALL)
    return b"" if inline is None else body[inline.start() :] if name == b"Resources" else inline[1]


def _stream(body):
    found = _STREAM.search(body)
    return b"" if found is None else zlib.decompressobj().decompress(found[1]) if b"FlateDecode" in body else found[1]


def _letters(font, objects):
    """Unicode text by code of a font."""
    referred = re.search(rb"/ToUnicode (\d+) 0 R", font)
    if referred is None:
        return {}
    letters = {}
    for block in re.findall(rb"beginbf(?:char|range)(.*?)endbf", _stream(objects[int(referred[1])]), re.DOTALL):
        for line in block.strip().splitlines():
            first, last, text = _PAIR.search(line).groups()
            if text is None:
                letters[int(first, 16)] = bytes.fromhex(last.decode()).decode("utf-16-be")
            else:
                for code in range(int(first, 16), int(last, 16) + 1):
                    letters[code] = chr(int(text, 16) + code - int(first, 16))
    return letters
