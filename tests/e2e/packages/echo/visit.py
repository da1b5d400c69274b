"""What a visitor gets through a load balancer: the page, and what the service answers."""

import socket
import ssl

context = ssl.create_default_context()
# The fleet's own certificate, until an authority gives one.
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for path in "/", "/api/":
    connection = socket.create_connection(("10.77.0.11", 443), timeout=10)
    connection.sendall(b"PROXY TCP4 198.51.100.7 10.77.0.11 40000 443\r\n")
    with context.wrap_socket(connection, server_hostname="pages.pkg.internal") as visitor:
        visitor.sendall(f"GET {path} HTTP/1.0\r\nHost: pages.pkg.internal\r\n\r\n".encode())
        answer = b"".join(iter(lambda: visitor.recv(4096), b"")).decode()
    head, body = answer.split("\r\n\r\n", 1)
    assert head.startswith("HTTP/1.1 200"), answer
    print(body, end="")
