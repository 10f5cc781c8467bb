#!/usr/bin/env python3
"""Exchanges bytes through the relay on port 8080 for the given seconds, with an echo server on port 7000 as its target.

Fails if any exchange failed. Without an argument, only the echo server runs, until it is killed."""
import socket
import sys
import threading
import time

CLIENTS = 8
MESSAGE = b"x" * 100


def receive(connection):
    received = b""
    while len(received) < len(MESSAGE):
        part = connection.recv(4096)
        if not part:
            raise OSError(f"cut after {len(received)} bytes")
        received += part


def echo():
    listener = socket.create_server(("127.0.0.1", 7000), backlog=512)

    def serve(connection):
        try:
            while part := connection.recv(4096):
                connection.sendall(part)
        finally:
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def exchange_until(end, times, failures):
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", 8080), timeout=30) as connection:
                connection.sendall(MESSAGE)
                receive(connection)
            times.append(time.monotonic() - start)
        except OSError as error:
            failures.append(str(error))


threading.Thread(target=echo, daemon=True).start()
if len(sys.argv) < 2:
    threading.Event().wait()
time.sleep(0.2)
times, failures = [], []
end = time.monotonic() + float(sys.argv[1])
clients = [threading.Thread(target=exchange_until, args=(end, times, failures)) for _ in range(CLIENTS)]
for client in clients:
    client.start()
for client in clients:
    client.join()
print(f"{len(times)} exchanges, {len(failures)} failed, slowest {max(times):.2f} s", failures[:3])
sys.exit(bool(failures))
