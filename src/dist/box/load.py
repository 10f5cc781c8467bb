#!/usr/bin/env python3
"""Boots a guest with the relay inside and relays through it. Requesters and targets are on this side.

    load.py <qemu command ...>

Runs in a network namespace of its own, whose tap device `box` is the guest's link. Prints a line for each step. The first
step that fails ends it with an error."""
import hashlib
import queue
import random
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

MIB = 1024 * 1024
BULK_MIB = 64
SESSIONS = 100
MESSAGE = random.Random(0).randbytes(16 * 1024)
IDLE_SECONDS = 60
# More sessions than the relay can hold log lines of while they cannot be written.
UNLOGGED_SESSIONS = 100
LINES_OF_A_SESSION = 8
HERE, GUEST = "10.0.2.2", "10.0.2.15"
BOOT_SECONDS = 120
IO_SECONDS = 120


def background(work, *arguments):
    """Runs the work on a thread of its own. Returns its future."""
    future = Future()

    def run():
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def send_bulk(connection, seed):
    """Sends random bytes and a FIN. Returns the hash of the bytes."""
    source, sent = random.Random(seed), hashlib.sha256()
    for _ in range(BULK_MIB):
        block = source.randbytes(MIB)
        sent.update(block)
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)
    return sent.hexdigest()


def receive_bulk(connection):
    """Returns the hash of all bytes up to the EOF."""
    received = hashlib.sha256()
    while part := connection.recv(256 * 1024):
        received.update(part)
    return received.hexdigest()


def exchange_bulk(connection, seed):
    """Sends and receives at the same time. Returns the hashes of both."""
    sent = background(send_bulk, connection, seed)
    received = receive_bulk(connection)
    return sent.result(), received


class Target:
    """The relay's target. It echoes, or exchanges bulk data if the first byte of a connection is a B."""

    def __init__(self):
        self.listener = socket.create_server((HERE, 0), backlog=SESSIONS)
        self.port = self.listener.getsockname()[1]
        self.bulk = queue.Queue()
        background(self.accept)

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            background(self.serve, connection)

    def serve(self, connection):
        with connection:
            if connection.recv(1) == b"B":
                self.bulk.put(exchange_bulk(connection, "to the requester"))
            else:
                while part := connection.recv(64 * 1024):
                    connection.sendall(part)


class Guest:
    """A virtual machine with a shell on port 23 and the relay on port 8080."""

    def __init__(self, command):
        card = ["-netdev", "tap,id=card,ifname=box,script=no,downscript=no", "-device", "e1000,netdev=card,romfile="]
        self.machine = subprocess.Popen(command + card, stdin=subprocess.DEVNULL)

    def run(self, command):
        """Returns the output of a shell command in the guest."""
        with socket.create_connection((GUEST, 23), timeout=IO_SECONDS) as shell:
            shell.sendall(f"({command}) 2>&1; echo; echo done; exit\n".encode())
            output = b""
            while part := shell.recv(4096):
                output += part
        assert output.endswith(b"\ndone\n"), f"the guest's shell was cut: {output}"
        return output.removesuffix(b"\ndone\n").decode().strip()

    def wait_for_boot(self):
        end = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                return self.run("uname -srm")
            except (OSError, AssertionError):
                assert time.monotonic() < end and self.machine.poll() is None, "the guest did not boot"
                time.sleep(0.5)

    def start_relay(self, target):
        command = f"tcprelay 8080 {HERE} {target} ANY 3 1800 0 4000"
        self.relay = int(self.run(f"{command} < /dev/null > /tmp/log 2>&1 & echo $!"))
        time.sleep(1)

    def log(self):
        return self.run("cat /tmp/log")

    def memory(self):
        rollup = self.run(f"cat /proc/{self.relay}/smaps_rollup")
        pss, = re.findall(r"^Pss: +(\d+)", rollup, re.MULTILINE)
        free, = re.findall(r"MemAvailable: +(\d+)", self.run("cat /proc/meminfo"))
        return f"relay {pss} KiB (PSS), machine {int(free) // 1024} MiB available"

    def switches(self):
        """Returns the relay's context switches, voluntary and involuntary."""
        status = self.run(f"cat /proc/{self.relay}/status")
        return [int(count) for count in re.findall(r"voluntary_ctxt_switches:\t(\d+)", status)]

    def connect(self):
        return socket.create_connection((GUEST, 8080), timeout=IO_SECONDS)


def exchange(connection):
    """Sends a message and reads its echo."""
    connection.sendall(MESSAGE)
    received = b""
    while len(received) < len(MESSAGE):
        part = connection.recv(64 * 1024)
        assert part, f"cut after {len(received)} bytes"
        received += part
    assert hashlib.sha256(received).digest() == hashlib.sha256(MESSAGE).digest(), "other bytes came back"


def open_session(guest):
    connection = guest.connect()
    connection.sendall(b"E")
    exchange(connection)
    return connection


def relay_bulk(guest, target):
    start = time.monotonic()
    with guest.connect() as connection:
        connection.sendall(b"B")
        sent, received = exchange_bulk(connection, "to the target")
    assert target.bulk.get(timeout=IO_SECONDS) == (received, sent), "the hashes differ"
    print(f"{BULK_MIB} MiB each way, hashes equal: {time.monotonic() - start:.0f} s")


def rest(guest):
    """Asserts that the relay does not wake up for a minute, with all sessions open."""
    time.sleep(5)
    before = guest.switches()
    time.sleep(IDLE_SECONDS)
    after = guest.switches()
    assert before == after, f"woken while idle: context switches {before}, then {after}"
    print(f"{IDLE_SECONDS} s idle: no wake-up")


def fill_tmp(guest, sessions):
    """Asserts that sessions go on while /tmp is full. Each log line is then written late or counted as dropped."""
    expected = len(guest.log().splitlines()) + LINES_OF_A_SESSION * (UNLOGGED_SESSIONS + 1)
    guest.run("cat /dev/zero > /tmp/full")
    for connection in sessions:
        exchange(connection)
    for _ in range(UNLOGGED_SESSIONS):
        open_session(guest).close()
    guest.run("rm /tmp/full")
    open_session(guest).close()
    end = time.monotonic() + IO_SECONDS
    lines, dropped = 0, []
    while not dropped or lines - len(dropped) + sum(dropped) < expected:
        assert time.monotonic() < end, f"{lines} lines in the log, {dropped} said to be dropped, not {expected} in all"
        time.sleep(0.5)
        log = guest.log()
        lines = len(log.splitlines())
        dropped = [int(count) for count in re.findall(r"(\d+) log lines were dropped", log)]
    print(f"/tmp full: {len(sessions)} sessions and {UNLOGGED_SESSIONS} new ones relayed, {sum(dropped)} log lines counted")


def exhaust_memory(guest, sessions):
    kills = "sed -n 's/^oom_kill //p' /proc/vmstat"
    before = int(guest.run(kills))
    neighbour = background(guest.run, "tail -n 1 /dev/zero")
    rounds = 0
    while not neighbour.done():
        exchange(sessions[rounds % len(sessions)])
        rounds += 1
    killed = int(guest.run(kills)) - before
    assert killed > 0, f"the neighbour ended without being killed: {neighbour.result()}"
    for connection in sessions:
        exchange(connection)
    print(f"out of memory: {killed} process killed beside the relay, {rounds} exchanges meanwhile")


def campaign(guest, target):
    print(guest.wait_for_boot())
    guest.start_relay(target.port)
    print("before:", guest.memory())
    relay_bulk(guest, target)
    sessions = [opened.result() for opened in [background(open_session, guest) for _ in range(SESSIONS)]]
    print(f"{SESSIONS} sessions at once:", guest.memory())
    rest(guest)
    fill_tmp(guest, sessions)
    exhaust_memory(guest, sessions)
    for connection in sessions:
        connection.close()
    time.sleep(2)
    print("after:", guest.memory())
    guest.run(f"kill {guest.relay}; while kill -0 {guest.relay}; do sleep 0.1; done")
    print(guest.log().splitlines()[-1])


def main():
    guest = Guest(sys.argv[1:])
    try:
        campaign(guest, Target())
    finally:
        guest.machine.kill()
        guest.machine.wait()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
