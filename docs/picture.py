#!/usr/bin/env python3
"""Draws docs/picture.svg from a real run: netkit's servers, a client and a ping, each in a terminal (pty).

Usage: cargo build --release && docs/picture.py [NETKIT]
Port 9999 must be free. It needs Python 3 and nothing else.
"""

import codecs, fcntl, os, pathlib, pty, re, select, signal, struct, sys, termios, time
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 80, 60
LIMIT = 30  # seconds, for the whole of a run
# As GitHub's dark theme has them: the picture brings its own background.
COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd"}
TEXT, DIM, PROMPT, BACKGROUND, EDGE = "#e6edf3", "#9198a1", "#7ee787", "#0d1117", "#3d444d"


class Screen:
    """What a terminal shows: cells of (character, colour). It knows the sequences that netkit writes."""

    def __init__(self):
        self.rows, self.x, self.y, self.colour, self.pending = [[]], 0, 0, TEXT, ""

    def put(self, character):
        if self.x == COLUMNS:
            self.x, self.y = 0, self.y + 1
        while len(self.rows) <= self.y:
            self.rows.append([])
        row = self.rows[self.y]
        row.extend([(" ", TEXT)] * (self.x + 1 - len(row)))
        row[self.x] = (character, self.colour)
        self.x += 1

    def write(self, text, colour=None):
        text, self.pending = self.pending + text, ""
        kept, self.colour = self.colour, colour or self.colour
        sequence = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
        at = 0
        while at < len(text):
            found = sequence.match(text, at)
            if found:
                self.obey(found[2], found[1])
                at = found.end()
                continue
            if text[at] == "\x1b":
                if len(text) - at < 12:
                    self.pending = text[at:]
                    break
                raise ValueError(f"an unknown sequence: {text[at:at + 12]!r}")
            if text[at] == "\n":
                self.x, self.y = 0, self.y + 1
                while len(self.rows) <= self.y:
                    self.rows.append([])
            elif text[at] == "\r":
                self.x = 0
            elif text[at] == "\b":
                self.x = max(0, self.x - 1)
            else:
                self.put(text[at])
            at += 1
        if colour:
            self.colour = kept

    def obey(self, letter, argument):
        count = int(argument) if argument.isdigit() else 1
        if letter == "m":
            for code in argument.split(";"):
                if code in ("", "0", "39"):
                    self.colour = TEXT
                elif code == "2":
                    self.colour = DIM
                elif code.isdigit() and (int(code) in COLOURS or int(code) - 60 in COLOURS):
                    self.colour = COLOURS[int(code) % 60 if int(code) > 60 else int(code)]
        elif letter == "K":
            self.rows[self.y][self.x:] = []
        elif letter == "J":
            self.rows[self.y][self.x:] = []
            self.rows[self.y + 1:] = []
        elif letter == "A":
            self.y = max(0, self.y - count)
        elif letter == "B":
            self.y += count
        elif letter == "C":
            self.x = min(COLUMNS - 1, self.x + count)
        elif letter == "D":
            self.x = max(0, self.x - count)
        elif letter == "G":
            self.x = count - 1
        elif letter not in "hl":
            raise ValueError(f"an unknown sequence: CSI {argument}{letter}")


class Run:
    """A shell's line in a terminal of its own; what it shows goes to a screen."""

    def __init__(self, screen, netkit, line, shown=None):
        self.screen = screen
        if shown is not None:
            screen.write("$ ", PROMPT)
            screen.write(shown + "\n")
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            path = f"{netkit.parent}:{os.environ['PATH']}"
            environment = {**os.environ, "PATH": path, "TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
            environment.pop("NO_COLOR", None)
            os.execvpe("sh", ["sh", "-c", line], environment)
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)
        self.seen, self.ended, self.limit = "", False, time.monotonic() + LIMIT

    def read(self, until=None, seconds=None):
        """Shows what comes until a text has come, a time has passed, or the program has ended."""
        end = self.limit if seconds is None else time.monotonic() + seconds
        while not self.ended and (until is None or until not in self.seen):
            left = end - time.monotonic()
            if left <= 0:
                if seconds is not None:
                    return
                raise TimeoutError(f"waited for {until!r}; there was {self.seen!r}")
            if not select.select([self.terminal], [], [], left)[0]:
                continue
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # EIO: the program has ended.
                data = b""
            self.ended = not data
            text = self.decoder.decode(data)
            self.seen += text
            self.screen.write(text)

    def finish(self, by=None):
        if by:
            os.kill(self.pid, by)
        self.read()
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def sessions(netkit):
    """Two terminals: servers, and those who use them."""
    left, right, unseen = Screen(), Screen(), Screen()

    server = Run(left, netkit, "exec netkit tcp-server 9999", "netkit tcp-server 9999")
    server.read(until="Waiting for connection...")
    client = "printf 'Michael\\nexit\\n' | netkit tcp-client -x :9999"
    Run(right, netkit, client, client).finish()
    server.read(until="closed.")
    scan = "netkit tcp-client -z :9999"
    Run(right, netkit, scan, scan).finish()
    server.read(seconds=0.3)
    server.finish(signal.SIGTERM)

    # A server that stops and comes back: the ping sees an outage.
    udp = "exec netkit udp-server --port 9999 --print-port --quiet"
    answering = Run(unseen, netkit, udp)
    answering.read(until="9999")
    ping = "netkit udp-client -c 50 -i 0.1 --live :9999"
    pinging = Run(right, netkit, ping, ping)
    pinging.read(seconds=2.0)
    answering.finish(signal.SIGTERM)
    pinging.read(seconds=0.9)
    answering = Run(unseen, netkit, udp)
    answering.read(until="9999")
    pinging.finish()
    answering.finish(signal.SIGTERM)
    return [("a server", left), ("its clients, and a ping whose server was away for a second", right)]


def picture(panes):
    width, height, margin, title = 8.4, 19, 14, 30
    total = round(COLUMNS * width + 2 * margin)
    body, top = [], 0
    for name, screen in panes:
        rows = [row for row in screen.rows]
        while rows and not "".join(cell[0] for cell in rows[-1]).strip():
            rows.pop()
        tall = title + len(rows) * height + margin
        body.append(
            f'<rect x="0.5" y="{top + 0.5}" width="{total - 1}" height="{tall - 1}" rx="8" '
            f'fill="{BACKGROUND}" stroke="{EDGE}"/>'
        )
        for index, dot in enumerate(("#ff5f57", "#febc2e", "#28c840")):
            body.append(f'<circle cx="{18 + 18 * index}" cy="{top + 16}" r="5" fill="{dot}"/>')
        body.append(f'<text x="76" y="{top + 20}" fill="{DIM}" font-size="12">{escape(name)}</text>')
        for number, row in enumerate(rows):
            y = top + title + 14 + number * height
            for start, text, colour in pieces(row):
                x, length = margin + start * width, len(text) * width
                body.append(
                    f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" '
                    f'lengthAdjust="spacingAndGlyphs" fill="{colour}">{escape(text)}</text>'
                )
        top += tall + 10
    tall = top - 10
    font = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{tall}" '
        f'viewBox="0 0 {total} {tall}" font-family="{font}" font-size="14" xml:space="preserve">'
    )
    return "\n".join([head, "<title>netkit in two terminals</title>", *body, "</svg>", ""])


def pieces(row):
    """The words of a row that have one colour: (column, text, colour). Wide gaps part them."""
    text = "".join(cell[0] for cell in row)
    for word in re.finditer(r"\S+(?: \S+)*", text):
        start = word.start()
        for column in range(word.start(), word.end()):
            last = column + 1 == word.end()
            if last or row[column + 1][1] != row[column][1]:
                piece = text[start:column + 1]
                if piece.strip():
                    lead = len(piece) - len(piece.lstrip())
                    yield start + lead, piece.strip(), row[start + lead][1]
                start = column + 1


def main():
    netkit = sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/netkit"
    svg = picture(sessions(pathlib.Path(netkit).resolve()))
    (ROOT / "docs/picture.svg").write_text(svg)
    print(f"docs/picture.svg: {len(svg.encode())} bytes")


main()
