"""Ways to spoil an input, each drawn from dice, so that the same seed spoils it the same way."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from functools import cache
from typing import Any, Final

Dice = random.Random

NUMBERS: Final = (0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""Where sizes and signs end."""

WORDS: Final = (
    *(
        "",
        " ",
        "0",
        "-1",
        "2",
        "1e400",
        "-1e-400",
        "nan",
        "Infinity",
        "0x10",
        "1_000",
        "٣",
        "9" * 400,
        "1.5",
        "true",
        "null",
    ),
    *(
        "a" * 70_000,
        "\x1b]0;title\x07",
        "\x1b[2J",
        "\r[rank 0] forged",
        "\u202egnp.exe",
        "\u2028",
        "\x85",
        "\x00",
        "\ufeff",
    ),
    *(
        "=1+1",
        "+1",
        "@SUM(A1)",
        "\t=1",
        "'",
        '"',
        '"a',
        "a,b",
        "a\nb",
        "../../x",
        "/etc/passwd",
        "C:\\x",
        "%s",
        "{0}",
        "${HOME}",
    ),
    *(
        "[red]x[/red]",
        "<script>",
        "`x`",
        "&a [*a]",
        "*a",
        "<<: *a",
        "!!python/name:os.system",
        "? - a",
        "2026-13-45",
        "~",
    ),
)
"""Texts that mean something to one reader or another."""

BOMB_BYTES: Final = 1300 << 20
"""What a bomb unpacks to: more than any input may take, and not yet a danger to who looks for it."""


def spoiled_bytes(dice: Dice, content: bytes, *, others: tuple[bytes, ...] = ()) -> bytes:
    """The content with a few changes that know nothing of its format."""
    spoiled = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        _spoil(dice, spoiled, others)
    return bytes(spoiled)


def _spoil(dice: Dice, content: bytearray, others: tuple[bytes, ...]) -> None:
    size = len(content)
    where = dice.randrange(size + 1)
    span = dice.choice((1, 4, 32, max(1, size // 4)))
    way = dice.randrange(9)
    if way == 0 and size:
        content[where % size] ^= 1 << dice.randrange(8)
    elif way == 1:
        content[where : where + 1] = bytes([dice.choice(NUMBERS) & 0xFF])
    elif way == 2:
        order = dice.choice("<>")
        form, value = dice.choice((("H", 0xFFFF), ("I", 0xFFFFFFFF)))
        packed = struct.pack(order + form, dice.choice(NUMBERS) & value)
        content[where : where + len(packed)] = packed
    elif way == 3:
        del content[where : where + span]
    elif way == 4:
        content[where:where] = content[where : where + span] * dice.choice((1, 2, 50))
    elif way == 5:
        del content[where:]
    elif way == 6:
        content[where:where] = dice.randbytes(span % 5_000)
    elif way == 7:
        content[where:where] = dice.choice(WORDS).encode("utf-8", "surrogatepass")
    else:
        other = dice.choice(others) if others else bytes(content)
        content[where:] = other[dice.randrange(len(other) + 1) :]


def spoiled_text(dice: Dice, content: bytes, *, separator: str = ",") -> bytes:
    """A table with a few changes to lines and cells; now and then to its bytes."""
    if dice.random() < 0.2:
        return spoiled_bytes(dice, content)
    lines = content.decode().split("\n")
    for _ in range(dice.choice((1, 1, 2, 5))):
        row = dice.randrange(len(lines))
        way = dice.randrange(6)
        if way == 0:
            lines[row:row] = [dice.choice(lines)] * dice.choice((1, 1, 30))
        elif way == 1 and len(lines) > 1:
            del lines[row]
        elif way == 2:
            other = dice.randrange(len(lines))
            lines[row], lines[other] = lines[other], lines[row]
        else:
            lines[row] = _spoiled_line(dice, lines[row], separator)
    text = "\n".join(lines)
    return text.encode(dice.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass")


def _spoiled_line(dice: Dice, line: str, separator: str) -> str:
    cells = line.split(separator)
    cell = dice.randrange(len(cells))
    way = dice.randrange(4)
    if way == 0:
        cells[cell : cell + 1] = []
    elif way == 1:
        cells[cell:cell] = [dice.choice(WORDS)] * dice.choice((1, 1, 3_000))
    else:
        cells[cell] = dice.choice(WORDS) if way == 2 else cells[cell] + dice.choice(WORDS)
    return separator.join(cells)


def spoiled_json(dice: Dice, content: bytes) -> bytes:
    """A document with a few changed, lost or foreign values; now and then with changed bytes, or nested without an end."""
    if dice.random() < 0.05:
        return b"[" * dice.choice((1_000, 200_000)) + b"]" * dice.choice((0, 1_000))
    if dice.random() < 0.15:
        return spoiled_bytes(dice, content)
    document = json.loads(content)
    for _ in range(dice.choice((1, 1, 2, 6))):
        document = _spoiled_node(dice, document, 0.35)
    text = json.dumps(document)
    if dice.random() < 0.1:
        text = text.replace("0", "9" * dice.choice((30, 500, 5_000)), 1)
    return text.encode()


def _spoiled_node(dice: Dice, node: Any, chance: float) -> Any:
    if dice.random() < chance or not isinstance(node, dict | list) or not node:
        return _foreign_value(dice, node)
    if isinstance(node, list):
        place = dice.randrange(len(node))
        return [*node[:place], _spoiled_node(dice, node[place], chance), *node[place + 1 :]]
    key = dice.choice(sorted(node))
    way = dice.randrange(8)
    if way == 0:
        return {name: value for name, value in node.items() if name != key}
    if way == 1:
        return {**node, dice.choice(WORDS): _foreign_value(dice, node[key])}
    return {**node, key: _spoiled_node(dice, node[key], chance)}


def _foreign_value(dice: Dice, node: Any) -> Any:
    way = dice.randrange(12)
    if way < 4:
        return dice.choice((None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308))
    if way < 6:
        return dice.choice((float("nan"), float("inf"), float("-inf")))
    if way < 9:
        return dice.choice(WORDS)
    if way < 11:
        return dice.choice(([], {}, [node], {"": node}, [node] * 40, {"a": {"b": {"c": node}}}))
    deep: Any = node
    for _ in range(dice.choice((70, 400))):
        deep = [deep]
    return deep


def zeroed(dice: Dice, content: bytes) -> bytes:
    """The content with zeros in place of a part of it, of the same size, as a power cut leaves it."""
    first = dice.randrange(len(content))
    last = min(len(content), first + dice.choice((1, 512, len(content))))
    return content[:first] + bytes(last - first) + content[last:]


def spoiled_yaml(dice: Dice, content: bytes) -> bytes:
    """Settings with a few changed lines; now and then a file of aliases, or one nested without an end."""
    way = dice.random()
    if way < 0.05:
        return alias_bomb(dice)
    if way < 0.1:
        return b"spec: " + b"{a: " * dice.choice((100, 5_000)) + b"1" + b"}" * dice.choice((0, 100, 5_000))
    if way < 0.25:
        return spoiled_bytes(dice, content)
    return spoiled_text(dice, content, separator=": ")


def alias_bomb(dice: Dice) -> bytes:
    """A few lines that stand for a billion values."""
    width, lines = dice.choice(((9, 9), (2, 40), (300, 3))), ["spec:"]
    lines.append("  a0: &a0 [" + ", ".join(["x"] * width[0]) + "]")
    lines += [
        f"  a{number + 1}: &a{number + 1} [" + ", ".join([f"*a{number}"] * width[0]) + "]" for number in range(width[1])
    ]
    return "\n".join(lines).encode()


def spoiled_gzip(dice: Dice, content: bytes) -> bytes:
    """A packed table, spoiled before or after it was packed; now and then a bomb."""
    way = dice.random()
    if way < 0.08:
        return gzip_bomb()
    if way < 0.5:
        return spoiled_bytes(dice, gzip.compress(content, mtime=0))
    packed = gzip.compress(spoiled_text(dice, content), mtime=0)
    return packed * dice.choice((1, 1, 1, 2))


@cache
def gzip_bomb() -> bytes:
    """A little file that unpacks to `BOMB_BYTES` of one letter."""
    return _packed(b"a" * (1 << 20), wbits=31)


@cache
def deflated_bomb() -> bytes:
    """The same of zeros and without a head, as DICOM has it."""
    return _packed(bytes(1 << 20), wbits=-15)


def _packed(block: bytes, *, wbits: int) -> bytes:
    packer = zlib.compressobj(1, wbits=wbits)
    return b"".join(packer.compress(block) for _ in range(BOMB_BYTES // len(block))) + packer.flush()


def spoiled_zip(dice: Dice, content: bytes) -> bytes:
    """An archive as torch writes it, with a changed entry, other entries, or packed ones; now and then a bomb."""
    if dice.random() < 0.3:
        return spoiled_bytes(dice, content)
    entries = _entries(content)
    way = dice.randrange(6)
    name = dice.choice(sorted(entries))
    if way <= 1:
        pickled = next(key for key in entries if key.endswith("data.pkl"))
        entries[pickled] = spoiled_bytes(dice, entries[pickled])
    elif way == 2:
        entries[name] = spoiled_bytes(dice, entries[name])
    elif way == 3:
        del entries[name]
    elif way == 4:
        entries[dice.choice(WORDS)[:200].replace("\x00", "") or "x"] = b"x"
    packed = zipfile.ZIP_DEFLATED if way == 5 or dice.random() < 0.1 else zipfile.ZIP_STORED
    if way == 5 and dice.random() < 0.3:
        return zip_bomb(content)
    return _archive(entries, packed)


@cache
def zip_bomb(content: bytes) -> bytes:
    """The archive with the bytes of its first tensor packed, `BOMB_BYTES` of zeros."""
    entries = _entries(content)
    tensor = next(name for name in sorted(entries) if "/data/" in name)
    buffer = io.BytesIO(_archive({name: entries[name] for name in entries if name != tensor}, zipfile.ZIP_STORED))
    with (
        zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(tensor, "w", force_zip64=True) as entry,
    ):
        for _ in range(BOMB_BYTES >> 20):
            entry.write(bytes(1 << 20))
    return buffer.getvalue()


def _entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(entries: dict[str, bytes], packed: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def spoiled_png(dice: Dice, content: bytes) -> bytes:
    """A PNG with a changed chunk whose checksum is right again; sizes that ask for much are likely."""
    if dice.random() < 0.3:
        return spoiled_bytes(dice, content)
    chunks = _chunks(content)
    place = dice.randrange(len(chunks))
    name, data = chunks[place]
    if dice.random() < 0.4:
        place, (name, data) = 0, chunks[0]
        sides = (0, 1, 7, 60, 5_000, 100_000, 2_000_000, 2**31 - 1)
        data = struct.pack(">II", dice.choice(sides), dice.choice(sides)) + data[8:]
    elif dice.random() < 0.3:
        name, data = (
            dice.choice((b"zTXt", b"iCCP", b"eXIf", b"acTL", b"tRNS", b"PLTE")),
            b"a\0\0" + zlib.compress(bytes(1 << 20)),
        )
        chunks.insert(1, (name, data))
        place = 1
    else:
        data = spoiled_bytes(dice, data)
    chunks[place] = (name, data)
    return content[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    return chunks


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def spoiled_jpeg(dice: Dice, content: bytes) -> bytes:
    """A JPEG with changed bytes, another size, or one of its scans again and again."""
    way = dice.random()
    frame = next((place for mark in (b"\xff\xc0", b"\xff\xc2") if (place := content.find(mark)) > 0), -1)
    if way < 0.2 and frame > 0:
        sides = (0, 1, 300, 20_000, 65_535)
        size = struct.pack(">HH", dice.choice(sides), dice.choice(sides))
        return content[: frame + 5] + size + content[frame + 9 :]
    if way < 0.35:
        scan = content.rfind(b"\xff\xda")
        return content[:scan] + content[scan:-2] * dice.choice((3, 40, 5_000)) + content[-2:]
    return spoiled_bytes(dice, content)


def spoiled_dicom(dice: Dice, content: bytes) -> bytes:
    """A DICOM file with another number in a field that says how large something is; a deflated one may be a bomb."""
    if dice.random() < 0.5:
        return spoiled_bytes(dice, content)
    tag = b"\x28\x00" + dice.choice(_SIZES) + b"US\x02\x00"
    where = content.find(tag)
    if where > 0:
        value = dice.choice((0, 1, 8, 32, 64, 255, 40_000, 65_535)).to_bytes(2, "little")
        return content[: where + 8] + value + content[where + 10 :]
    meta_end = content.find(_DEFLATED) + len(_DEFLATED)
    return content[:meta_end] + deflated_bomb() if _DEFLATED in content else spoiled_bytes(dice, content)


_SIZES: Final = (b"\x10\x00", b"\x11\x00", b"\x02\x00", b"\x00\x01", b"\x01\x01")
"""Elements of group 0028: rows, columns, samples per pixel, bits allocated, bits stored."""

_DEFLATED: Final = b"UI\x16\x001.2.840.10008.1.2.1.99"
"""How a file says that what follows its head is deflated."""
