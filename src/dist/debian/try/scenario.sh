#!/bin/bash
# Runs inside the container of try.sh. The first check that fails ends it.
set -euo pipefail
trap 'echo "failed in line $LINENO: $BASH_COMMAND"' ERR

is() { # is <unit> <property> <value>
    local value
    value=$(systemctl show --value -p "$2" "$1")
    [ "$value" = "$3" ] || { echo "$1: $2 is $value, not $3"; return 1; }
}
is_listening() { ss -Hltn "sport = :$1" | grep -q .; }
fails() { if "$@"; then echo "succeeded: $*"; return 1; fi; }
leftovers() { find / -xdev -name '*tcprelay*' -not -path '/proc/*' -not -path '/root/*'; }

echo '== install, start'
dpkg -i /root/old.deb > /dev/null
echo 'ARGS=127.0.0.1 7000 ANY 3 600 0 4000' > /etc/tcprelay/8080.conf
systemd-analyze verify tcprelay@8080.service tcprelay@8080.socket 2>&1 | grep -v "Command 'man " || true
systemctl --quiet enable --now tcprelay@8080.service
is tcprelay@8080.service SubState running

echo '== upgrade under load'
first=$(systemctl show --value -p MainPID tcprelay@8080.service)
python3 /root/load.py 5 & load=$!
sleep 1
dpkg -i /root/new.deb > /dev/null
wait $load
is tcprelay@8080.service SubState running
fails is tcprelay@8080.service MainPID "$first" > /dev/null

echo '== a wrong file: the port stays closed, and systemd shows why'
echo 'ARGS=127.0.0.1 7000 ANY 9 600 0 4000' > /etc/tcprelay/8081.conf
fails systemctl start tcprelay@8081.socket
fails systemctl start tcprelay@8081.service
is tcprelay@8081.socket Result exit-code
journalctl -o cat -u tcprelay@8081.socket | grep -F 'Error: <c t/o> must be between 1 and 3 inclusive.' | head -n 1
fails is_listening 8081

echo '== a file that becomes wrong under an open socket: connections wait for the right one'
sed s/9/3/ /etc/tcprelay/8081.conf > /etc/tcprelay/8082.conf
systemctl start tcprelay@8082.socket
cp /etc/tcprelay/8081.conf /etc/tcprelay/8082.conf
python3 /root/load.py & echo=$!
python3 - << 'PYTHON' & waiting=$!
import socket
connections = [socket.create_connection(("127.0.0.1", 8082), timeout=60) for _ in range(40)]
for connection in connections:
    connection.sendall(b"hello")
assert all(connection.recv(5) == b"hello" for connection in connections)
print("40 connections waited, and were served")
PYTHON
# Longer than the 2 s for which systemd counts a socket's triggers towards its limit.
sleep 6
is tcprelay@8082.socket SubState running
is tcprelay@8082.service Result exit-code
systemctl show -p NRestarts tcprelay@8082.service
echo 'ARGS=127.0.0.1 7000 ANY 3 600 0 4000' > /etc/tcprelay/8082.conf
wait $waiting
kill $echo

echo '== remove: nothing runs, nothing is enabled, the files stay'
dpkg -r tcprelay > /dev/null
fails pgrep -x tcprelay
fails is_listening 8080
[ -z "$(systemctl --no-legend list-units --all 'tcprelay@*')" ]
[ -z "$(find /etc/systemd/system -name 'tcprelay@*')" ]
[ -e /etc/tcprelay/8080.conf ]

echo '== install again, purge: nothing is left'
dpkg -i /root/new.deb > /dev/null
is tcprelay@8080.service UnitFileState disabled
systemctl start tcprelay@8080.service
systemctl --quiet mask tcprelay@8090.service
mkdir /etc/systemd/system/tcprelay@8080.socket.d
printf '[Socket]\nBacklog=100\n' > /etc/systemd/system/tcprelay@8080.socket.d/backlog.conf
dpkg -P tcprelay > /dev/null
fails is_listening 8080
[ -z "$(systemctl --no-legend list-units --all 'tcprelay@*')" ]
[ -z "$(leftovers)" ] || { leftovers; exit 1; }
echo '1 passed, 0 failed'
