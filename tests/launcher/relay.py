"""A proxy for tests: HTTP (CONNECT, or the whole URL) and SOCKS5, told apart by the first byte."""

import base64
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Relay:
    """A proxy that sends every connection to the API double, whatever name the client asks for, and notes that name."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self.logins: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            first = client.recv(1, socket.MSG_PEEK)
            start = self._socks(client) if first == b"\x05" else self._http(client)
            with socket.create_connection((self._target.hostname, self._target.port)) as server:
                server.sendall(start)
                threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
                self._pump(server, client)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def _http(self, client: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        method, address, _ = head.split(b"\r\n")[0].decode().split()
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("proxy-authorization: basic "):
                self.logins.append(base64.b64decode(line.split()[-1]).decode())
        if method == "CONNECT":
            self.asked.append(address)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            return b""
        parts = urlsplit(address)
        self.asked.append(parts.netloc)
        return head.replace(address.encode(), f"{parts.path}?{parts.query}".encode(), 1)

    def _socks(self, client: socket.socket) -> bytes:
        methods = client.recv(2 + 255)[2:]
        if b"\x02" in methods:
            client.sendall(b"\x05\x02")
            login = client.recv(1024)
            user = login[2 : 2 + login[1]]
            self.logins.append(f"{user.decode()}:{login[3 + len(user) :].decode()}")
            client.sendall(b"\x01\x00")
        else:
            client.sendall(b"\x05\x00")
        request = client.recv(1024)
        assert request[3] == 3, "the name is not resolved by the proxy"
        name = request[5 : 5 + request[4]].decode()
        self.asked.append(f"{name}:{int.from_bytes(request[-2:], 'big')}")
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        return b""
