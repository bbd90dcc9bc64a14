"""The scripted provider's server: HTTP/1.1 on a free port of the loopback interface.

Owns the wire: reading requests, framing and pacing answers, and the record of what came in, which
`/_trial/received` hands out. What is answered stands in `answers.py`.

Invariant: every request but the trial's own is recorded, as it came, with how its answer ended.
"""

import base64
import contextlib
import select
import socket
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import brotli
import zstandard

from answers import Answer, Request, answer

# How long the trial's question for what came in waits for answers that are still under way.
SETTLE_SECONDS = 5.0


class Received:
    """What came in since it was last asked for."""

    def __init__(self):
        self.changed = threading.Condition()
        self.records = []

    def open(self, record):
        with self.changed:
            self.records.append(record)

    def close(self, record, ended):
        with self.changed:
            record["ended"] = ended
            self.changed.notify_all()

    def take(self):
        with self.changed:
            self.changed.wait_for(lambda: all(r["ended"] for r in self.records), SETTLE_SECONDS)
            taken, self.records = self.records, []
            return taken


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    received = Received()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def serve(self):
        if self.path == "/_trial/received":
            return self.send(Answer.json(self.received.take()), "")
        record = {
            "method": self.command,
            "path": self.path,
            "headers": self.headers.items(),
            "ended": None,
        }
        self.received.open(record)
        ended = "cut"
        try:
            body = self.read_body()
            record["body"] = base64.b64encode(body).decode()
            request = Request(self.command, self.path, dict(self.lower_headers()), body)
            ended = self.send(answer(request), request.headers.get("accept-encoding", ""))
        except ConnectionError:
            self.close_connection = True
        finally:
            self.received.close(record, ended)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = serve

    def lower_headers(self):
        return ((name.lower(), value) for name, value in self.headers.items())

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def send(self, answer, offered):
        """Sends an answer. Returns how it ended: `whole`, or `broken` where the script says so."""
        if answer.delay and self.is_client_gone(answer.delay):
            raise ConnectionResetError
        if answer.status is None:
            self.break_off()
            return "broken"
        headers = list(answer.headers)
        encoder = None
        if answer.encoding and answer.encoding in offered:
            headers.append(("Content-Encoding", answer.encoding))
            encoder = Encoder(answer.encoding)
        pieces = answer.pieces
        if encoder:
            pieces = (encoder.push(piece) for piece in pieces)
        is_stream = answer.is_stream
        if is_stream:
            headers.append(("Transfer-Encoding", "chunked"))
        else:
            whole = b"".join(pieces) + (encoder.end() if encoder else b"")
            headers.append(("Content-Length", str(len(whole))))
        self.send_response_only(answer.status)
        for name, value in headers:
            self.send_header(name, value)
        if not is_stream:
            # In one write: an SDK that is going to retry hangs up at the head, and how much of the
            # body a proxy has seen by then would be a matter of luck.
            self._headers_buffer += [b"\r\n", whole]
            self.flush_headers()
            return "whole"
        self.end_headers()
        for piece in pieces:
            if piece:
                self.write_chunk(piece)
            if answer.pace and self.is_client_gone(answer.pace):
                raise ConnectionResetError
        if answer.breaks:
            self.break_off()
            return "broken"
        # Clients may hang up at the last event, before the end of the body.
        with contextlib.suppress(ConnectionError):
            if encoder and (rest := encoder.end()):
                self.write_chunk(rest)
            self.wfile.write(b"0\r\n\r\n")
        return "whole"

    def write_chunk(self, piece):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def is_client_gone(self, seconds):
        """Waits so long, unless the client hangs up first."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def break_off(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


class Encoder:
    """Encodes a body piece by piece, so that a stream stays one."""

    def __init__(self, encoding):
        if encoding == "gzip":
            encoder = zlib.compressobj(wbits=31)
            self.push = lambda piece: encoder.compress(piece) + encoder.flush(zlib.Z_SYNC_FLUSH)
            self.end = encoder.flush
        elif encoding == "br":
            encoder = brotli.Compressor()
            self.push = lambda piece: encoder.process(piece) + encoder.flush()
            self.end = encoder.finish
        else:
            encoder = zstandard.ZstdCompressor().compressobj()
            block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
            self.push = lambda piece: encoder.compress(piece) + encoder.flush(block)
            self.end = encoder.flush


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
