"""A server that does whatever a test wants: bytes in, bytes out, on the loopback."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

NO_ROBOTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class RawServer:
    "Calls `talk(connection, path)` for each connection, in a thread of its own; robots.txt is answered with 404."

    def __init__(
        self,
        talk: Callable[[socket.socket, str], None],
        *,
        robots: bool = True,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.talk, self.robots, self.context = talk, robots, context
        self.paths: list[str] = []
        self.sent = 0
        self.hung_up = threading.Event()  # the client has closed a connection that we still wrote to or waited on
        self.listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(20)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            request = connection.recv(65536)
            path = request.split(b" ")[1].decode("latin-1") if request.count(b" ") > 1 else ""
            self.paths.append(path)
            if self.robots and path == "/robots.txt":
                connection.sendall(NO_ROBOTS)
            else:
                self.talk(connection, path)
        except OSError:
            self.hung_up.set()
        finally:
            connection.close()

    @property
    def hits(self) -> list[str]:
        "The paths that were asked for, robots.txt left out."
        return [path for path in self.paths if path != "/robots.txt"]

    def close(self) -> None:
        self.listener.close()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send(*chunks: bytes, then: str = "close", pause: float = 0.0) -> Callable[[socket.socket, str], None]:
    "A talk that sends chunks, slowly if asked, and then closes or waits until the client does."
    return send_all(lambda: chunks, then=then, pause=pause)


def send_all(chunks: Callable[[], Iterable[bytes]], *, then: str = "close", pause: float = 0.0) -> Callable[[socket.socket, str], None]:
    "The same for a stream that may have no end."

    def talk(connection: socket.socket, _path: str) -> None:
        for chunk in chunks():
            connection.sendall(chunk)
            if pause:
                threading.Event().wait(pause)
        if then == "wait":
            wait_for_end(connection)

    return talk


def wait_for_end(connection: socket.socket) -> None:
    "Block until the client closes; counts as hanging up."
    while connection.recv(65536):
        pass
    raise ConnectionResetError("the client is gone")


def self_signed(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    "A TLS context with a fresh self-signed certificate for a host or address, and the certificate's file."
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return context, path
