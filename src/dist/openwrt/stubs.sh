#!/bin/sh
# Stands in for the functions that OpenWrt gives an init script, and records the script's calls to procd:
#
#     busybox ash stubs.sh <tcprelay> <function of the init script> < sections
#
# A line of the input is "<section> <option> <value>"; a section begins with its first line. Each
# call is a line of the output, with a bar before each argument.
# shellcheck shell=dash disable=SC1091,SC2034,SC2317

program=$1
action=$2
section=''
device=''
sections=''
while read -r name option value; do
	case " $sections " in
	*" $name "*) ;;
	*) sections="$sections $name" ;;
	esac
	eval "uci_${name}_$option=\$value"
done

record() { printf '%s' "$1"; shift; printf '|%s' "$@"; echo; }

for call in procd_open_instance procd_close_instance procd_set_param procd_add_jail procd_add_validation \
	procd_add_reload_trigger procd_add_reload_interface_trigger procd_send_signal logger; do
	eval "$call() { record $call \"\$@\"; }"
done

config_load() { [ "$1" = tcprelay ]; }

config_get() { eval "$1=\$uci_${2}_$3"; }

config_foreach() {
	local call="$1" each
	shift 2
	for each in $sections; do "$call" "$each" "$@"; done
}

# Does the same as procd.sh, but checks only two kinds of types: ranges and choices.
uci_load_validate() {
	local name="$3" call="$4" row type default valid=0
	shift 4
	for row in "$@"; do eval "local ${row%%:*}"; done
	for row in "$@"; do
		type="${row#*:}" default=''
		case "$type" in
		*:*) default="${type#*:}" type="${type%%:*}" ;;
		esac
		row="${row%%:*}"
		eval "$row=\${uci_${name}_$row:-\$default}"
		is_of_type "$type" "$(eval "echo \"\$$row\"")" || valid=1
	done
	"$call" "$name" "$valid"
}

is_of_type() {
	local low high
	case "$1 $2" in
	*' ') ;;
	range*)
		low="${1#range(}" high="${1#*,}"
		[ "$2" -ge "${low%,*}" ] 2> /dev/null && [ "$2" -le "${high%)}" ]
		;;
	or*)
		case "$1" in
		*"\"$2\""*) ;;
		*) return 1 ;;
		esac
		;;
	esac
}

. "${0%/*}/files/tcprelay.init"
PROG=$program
"$action"
