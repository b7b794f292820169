#!/bin/bash
# Opens a grid of three nodes on this machine, runs prompts on it and shows where each ran and why;
# then kills a node in the middle of a story, and shows that the story goes on elsewhere, to the
# letter. Leaves nothing behind.
# usage: scripts/demo.sh PATH-TO-STARLANE
set -euo pipefail
starlane=$(realpath "$1")

WAIT_S=60     # for things to be ready: there are slow machines, and sanitizers
ATTEMPTS=20   # a fast machine may have told the whole story before the kill arrives
KILL_AFTER=15 # pieces of text
NODES='north east south'
PROMPT='Once upon a time there was a little girl who'
STORY="{\"model\":\"starling\",\"prompt\":\"$PROMPT\",\"max_tokens\":240,\"seed\":3,
    \"temperature\":0.7,\"top_p\":0.9,\"stream\":true}"

work=$(mktemp -d)
declare -A pid
leave() {
    trap '' INT TERM # a second one must not keep this from its end
    local name
    for name in "${!pid[@]}"; do kill "${pid[$name]}" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
get() { curl -q -sS --noproxy '*' "$@"; }

# Runs a condition until it holds.  usage: await WHAT COMMAND...
await() {
    local what=$1 i
    shift
    for ((i = 0; i < WAIT_S * 20; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.05
    done
    fail "waited for $what: $(tail -n 3 "$work"/*.log)"
}

# A machine of its own, as far as the program can tell.  usage: member NAME COMMAND...
member() {
    local name=$1
    shift
    STARLANE_HOME=$work/$name "$starlane" "$@" --name "$name" --grid-host 127.0.0.1 --threads 1 \
        >"$work/$name.out" 2>"$work/$name.log" &
    pid[$name]=$!
}

serves() {
    STARLANE_HOST=$(sed -n 's/.* listens on \(http:[^ ]*\).*/\1/p' "$work/gateway.log")
    [ -n "$STARLANE_HOST" ] && get -f "$STARLANE_HOST/health"
}

open_grid() {
    unset STARLANE_API_KEY
    # All models run on the nodes: the gateway has no room for one. Each is kept on all three.
    member gateway up --port 0 --grpc-port 0 --memory 1M --token-uses 3 --replicas 3
    await 'the gateway' serves
    export STARLANE_HOST
    await 'a token' test -s "$work/gateway.out"
    say "starlane up     (on one machine; it prints the line for the others)"
    cut -c -72 "$work/gateway.out"
    local name
    for name in $NODES; do
        say "starlane join slj1....     (on the machine $name)"
        # shellcheck disable=SC2046
        member "$name" $(cut -d ' ' -f 2- "$work/gateway.out")
    done
    await 'the nodes' nodes_are_alive
}

# The first request loads the model; after that it is on all three.
all_are_ready() { [ "$("$starlane" explain --model starling --json | grep -c '"state": "ready"')" = 3 ]; }

nodes_are_alive() { [ "$("$starlane" nodes | grep -c ' node .* alive ')" = 3 ]; }

# The text of one event of a stream, as JSON has it. Its escapes are those of printf's format.
text_of() {
    [[ $1 =~ \"text\":\"(([^\"\\]|\\.)*)\" ]] || return 1
    # shellcheck disable=SC2059
    printf -v text "${BASH_REMATCH[1]//%/%%}"
}

# The node that has the request now, or had it last.  # usage: node_of REQUEST-ID
node_of() {
    "$starlane" explain "$1" --json | sed -n '/"attempts"/,/\]/s/.*"name": "\([^"]*\)".*/\1/p' |
        tail -n 1
}

request_id() { tr -d '\r' <"$work/head" | sed -n 's/^x-starlane-request-id: //Ip'; }

# Loses its power, as a machine does: all its processes end at once.
kill_node() {
    local children
    children=$(cat "/proc/${pid[$1]}/task/${pid[$1]}/children")
    # shellcheck disable=SC2086
    kill -9 "${pid[$1]}" $children 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# Prints a story as it comes and keeps it in $work/NAME; "kill" kills its node on the way.
# usage: tell NAME [kill]
tell() {
    local pieces=0 line text
    victim=
    : >"$work/head"
    printf '%s' "$PROMPT"
    while IFS= read -r line; do
        [[ $line != *'"error":'* ]] || fail "$line"
        text_of "$line" || continue
        printf '%s' "$text"
        printf '%s' "$text" >&3
        pieces=$((pieces + 1))
        [ "${2-} $pieces" != "kill $KILL_AFTER" ] || {
            victim=$(node_of "$(request_id)")
            kill_node "$victim"
            printf ' [kill -9 %s]' "$victim"
        }
    done 3>"$work/$1" < <(get -N -D "$work/head" "$STARLANE_HOST/v1/completions" -d "$STORY")
    echo
}

begin=$SECONDS
open_grid
say "starlane nodes"
"$starlane" nodes

say "A prompt for the grid: curl $STARLANE_HOST/v1/completions -d '{\"model\":\"starling\",...}'"
tell story
id=$(request_id)
say "starlane explain $id     (where it ran, and why)"
"$starlane" explain "$id"

await 'the model on all nodes' all_are_ready
say "Six prompts at once"
for i in 1 2 3 4 5 6; do
    get -o /dev/null -D "$work/head$i" "$STARLANE_HOST/v1/completions" \
        -d "{\"model\":\"starling\",\"prompt\":\"Story number $i:\",\"max_tokens\":60}" &
    asked[i]=$!
done
for i in 1 2 3 4 5 6; do wait "${asked[i]}"; done
for i in 1 2 3 4 5 6; do
    cp "$work/head$i" "$work/head"
    printf '  prompt %d ran on %s\n' "$i" "$(node_of "$(request_id)")"
done

say "The first story again; the node that tells it is killed in the middle"
for ((attempt = 1; ; attempt++)); do
    tell again kill
    id=$(request_id)
    [ "$("$starlane" explain "$id" --json | grep -c '"sent_ms"')" = 1 ] || break
    [ $attempt -lt $ATTEMPTS ] || fail "each story was told before its node was killed"
    echo "(It was told before the kill. Once more.)"
    member "$victim" join
    await "$victim" nodes_are_alive
done
cmp -s "$work/story" "$work/again" || fail "the second story is not the first"
say "No error, and the same story to the letter: another node went on where $victim had died."
"$starlane" explain "$id"

say "starlane nodes"
"$starlane" nodes
for name in "${!pid[@]}"; do kill "${pid[$name]}"; done
for name in "${!pid[@]}"; do
    wait "${pid[$name]}" || fail "$name ended with an error: $(cat "$work/$name.log")"
    unset "pid[$name]"
done
say "Done in $((SECONDS - begin)) s, everything is stopped. Your turn: $starlane up"
