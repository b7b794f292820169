#!/bin/bash
# Installs the Debian packages of the given groups of deps/debian.txt where they are missing or too
# old.
# usage: scripts/deps.sh GROUP...      (build, test, demo, bench, check, train)
# Silent and without network when nothing is to do. Needs root or a sudo that asks for no password;
# with neither it prints what it would install and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

list=deps/debian.txt
declare -A installed # package -> version

say() { printf 'deps: %s\n' "$*" >&2; }

# Runs a command whose output matters only when it fails.
quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || { printf '%s\n' "$output" >&2; say "failed: $*"; exit 1; }
}

# Lines "names lowest command" of the wanted groups, without repeats.
wanted() {
    grep -v '^#' "$list" | awk -v groups=" $* " '
        NF && index(groups, " " $1 " ") { print $2, $3, ($4 ? $4 : "-") }' | sort -u
}

read_installed() {
    installed=()
    local name version state
    while read -r name version state; do
        [ "$state" = installed ] && installed[${name%%:*}]=$version
    done < <(dpkg-query -W -f='${binary:Package} ${Version} ${db:Status-Status}\n' 2>/dev/null)
}

# satisfied NAMES LOWEST COMMAND
satisfied() {
    local name
    [ "$3" != - ] && command -v "$3" >/dev/null && return 0
    for name in ${1//|/ }; do
        [ -n "${installed[$name]:-}" ] || continue
        dpkg --compare-versions "${installed[$name]}" ge "$2" && return 0
    done
    return 1
}

# Prints "NAMES LOWEST" of what is missing or too old.
missing() {
    local names lowest command
    read_installed
    while read -r names lowest command; do
        satisfied "$names" "$lowest" "$command" || echo "$names $lowest"
    done < <(wanted "$@")
}

# The first of a|b|c that apt knows.
known_name() {
    local name
    for name in ${1//|/ }; do
        if apt-cache show "$name" >/dev/null 2>&1; then echo "$name"; return; fi
    done
    echo "${1%%|*}"
}

main() {
    local as_root=() todo packages=() names lowest
    [ $# -gt 0 ] || { say "which groups? build, test, demo, bench, check, train"; exit 2; }
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: install what deps/debian.txt lists for: $*"
        exit 0
    fi
    todo=$(missing "$@")
    [ -n "$todo" ] || exit 0

    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            say "these Debian packages are missing or too old (lowest accepted version):"
            sed 's/^\(\S*\) \(.*\)$/    \1 (>= \2)/' <<<"$todo" >&2
            say "this account is not root and has no password-less sudo. As root:"
            say "    apt-get install --no-install-recommends $(sed 's/[| ].*//' <<<"$todo" | xargs)"
            exit 1
        fi
    fi
    say "apt-get update"
    quietly "${as_root[@]}" apt-get update
    while read -r names lowest; do packages+=("$(known_name "$names")"); done <<<"$todo"
    say "apt-get install ${packages[*]}"
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}"
    todo=$(missing "$@")
    if [ -n "$todo" ]; then
        say "still missing or older than accepted: $(xargs <<<"$todo")"
        exit 1
    fi
}

main "$@"
