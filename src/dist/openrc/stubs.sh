#!/bin/sh
# Stands in for OpenRC, and prints the variables that the init script sets:
#
#     busybox ash stubs.sh <tcprelay> <name of the service> < <file of /etc/conf.d>
#
# Exits as "checkconfig" does.
# shellcheck shell=dash disable=SC1091,SC2034,SC2154

program=$1
RC_SVCNAME=$2

yesno() {
	case "$1" in
	[Yy][Ee][Ss] | [Tt][Rr][Uu][Ee] | [Oo][Nn] | 1) return 0 ;;
	*) return 1 ;;
	esac
}
eerror() { echo "eerror|$1"; }

eval "$(cat)"
. "${0%/*}/tcprelay.initd"
command=$program
for name in command_args command_user capabilities supervisor command_background retry; do
	eval "echo \"$name|\$$name\""
done
checkconfig
