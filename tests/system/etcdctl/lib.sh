# What the scripts beside this file share. `etcdctl` is in PATH, and ETCDCTL_ENDPOINTS names the system under test.
set -u

# Longest that something may take to be printed by a command in the background.
SHOWN_WITHIN_SECONDS=20

# run COMMAND…: prints the command, what it prints, and how it ended unless well.
run() {
    printf '$ %s\n' "$*"
    "$@" 2>&1
    local code=$?
    [ $code = 0 ] || echo "exit code $code"
}

# feed TEXT COMMAND…: the same, with a text on standard input.
feed() {
    local text=$1
    shift
    run "$@" < <(printf '%b' "$text")
}

# follow NAME COMMAND…: starts a command that goes on by itself.
follow() {
    local name=$1
    shift
    printf '$ %s &\n' "$*"
    : >"$WORK/$name"
    "$@" >"$WORK/$name" 2>&1 &
    printf '%s' $! >"$WORK/$name.pid"
}

# shown NAME LINES: waits until a command in the background has printed so many lines.
shown() {
    local deadline=$((SECONDS + SHOWN_WITHIN_SECONDS))
    until [ "$(grep -vc '^{"level"' "$WORK/$1")" -ge "$2" ]; do
        [ $SECONDS -lt $deadline ] || { echo "$1: fewer than $2 lines"; break; }
        sleep 0.05
    done
}

# until_printed TEXT COMMAND…: repeats a command until it prints this text.
until_printed() {
    local text=$1 deadline=$((SECONDS + SHOWN_WITHIN_SECONDS))
    shift
    until "$@" 2>/dev/null | grep -qF -- "$text"; do
        [ $SECONDS -lt $deadline ] || { echo "$*: never printed $text"; break; }
        sleep 0.05
    done
}

# stop NAME: ends a command in the background, and shows what it printed.
stop() {
    kill -TERM "$(cat "$WORK/$1.pid")" 2>/dev/null
    wait "$(cat "$WORK/$1.pid")" 2>/dev/null
    printf 'stopped: %s\n' "$1"
    cat "$WORK/$1"
}
