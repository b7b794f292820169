#!/bin/bash
# Serves the bundled model for a few seconds, lets it tell a story over HTTP, and kills its process
# in the middle of the story to show that the story goes on. Leaves nothing behind.
# usage: scripts/demo.sh PATH-TO-STARLANE
set -euo pipefail
starlane=$1

WAIT_S=60     # for the server to be ready: there are slow machines, and sanitizers
ATTEMPTS=20   # a fast machine may have told the whole story before the kill arrives
KILL_AFTER=15 # pieces of text
PROMPT='Once upon a time there was a little girl who'

work=$(mktemp -d)
server=
leave() {
    trap '' INT TERM # a second one must not keep this from its end
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
get() { curl -q -sS --noproxy '*' "$@"; }

start_server() {
    export STARLANE_HOME=$work/home
    unset STARLANE_API_KEY
    : >"$work/log"
    "$starlane" serve starling --port 0 --threads 1 2>"$work/log" &
    server=$!
    for ((i = 0; i < WAIT_S * 20; i++)); do
        STARLANE_HOST=$(sed -n 's/.* listens on \(http:[^ ]*\).*/\1/p' "$work/log")
        if [ -n "$STARLANE_HOST" ] && get -f "$STARLANE_HOST/health" >/dev/null 2>&1; then
            export STARLANE_HOST
            return
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    fail "the server does not start: $(cat "$work/log")"
}

# The process that computes is the server's only child.
kill_worker() { kill -9 "$(awk '{ print $1 }' "/proc/$server/task/$server/children")"; }

# The text of one event of a stream, as JSON has it. Its escapes are those of printf's format.
text_of() {
    [[ $1 =~ \"text\":\"(([^\"\\]|\\.)*)\" ]] || return 1
    # shellcheck disable=SC2059
    printf -v text "${BASH_REMATCH[1]//%/%%}"
}

# Prints a story as it comes and keeps it in $work/NAME; "kill" kills its process on the way.
# usage: tell NAME [kill]
tell() {
    local pieces=0 line text
    printf '%s' "$PROMPT"
    while IFS= read -r line; do
        [[ $line != *'"error":'* ]] || fail "$line"
        text_of "$line" || continue
        printf '%s' "$text"
        printf '%s' "$text" >&3
        pieces=$((pieces + 1))
        [ "${2-} $pieces" != "kill $KILL_AFTER" ] || { kill_worker; printf ' [kill -9]'; }
    done 3>"$work/$1" < <(get -N "$STARLANE_HOST/v1/completions" -d "{\"model\":\"starling\",
        \"prompt\":\"$PROMPT\",\"max_tokens\":240,\"seed\":3,\"temperature\":0.7,\"top_p\":0.9,
        \"stream\":true}")
    echo
}

replays() {
    get "$STARLANE_HOST/metrics" |
        awk '/^starlane_requests_replayed_total/ { n += $2 } END { print n + 0 }'
}

begin=$SECONDS
start_server
say "$starlane serve starling     (here on $STARLANE_HOST)"
say "curl -N $STARLANE_HOST/v1/completions -d '{\"model\":\"starling\",\"stream\":true,...}'"
tell story

say "The same request; the process that computes it is killed in the middle"
for ((attempt = 1; ; attempt++)); do
    tell again kill
    [ "$(replays)" = 0 ] || break
    [ $attempt -lt $ATTEMPTS ] || fail "each story was told before its process was killed"
    echo "(It was told before the kill. Once more.)"
done
cmp -s "$work/story" "$work/again" || fail "the second story is not the first"
say "No error, and the same story to the letter: a new process went on where the old one died."

say "$starlane ps"
"$starlane" ps
say "$starlane usage --by model"
"$starlane" usage --by model
kill "$server"
wait "$server" || fail "the server ended with an error: $(cat "$work/log")"
server=
say "Done in $((SECONDS - begin)) s, the server is stopped. Your turn: $starlane serve starling"
