# PID 1 of a container whose image has a shell and no Python. POSIX sh; says the same as keeper.py, with these limits:
# an exit code of 129 to 192 counts as a death by signal, as in any shell, and "env" must be in the image. Without
# "setsid" the script shares the session of this shell, which ignores what reaches it.
# "order" sets stdin and cwd and defines program (tests that it is there) and run (becomes it).

say() {
    printf '\n1 %s\n' "$*" >/rgrid/ctl/status
}

start() {
    . /rgrid/ctl/order
    if ! [ -d "$cwd" ] || ! [ -x "$cwd" ]; then
        say failed cwd 2
        return
    fi
    if ! (cd -- "$cwd" && program); then
        say failed exec 2
        return
    fi
    # When nobody on the host is left while the script runs: everything ends, and so do we.
    (read -r _ <&3 || { kill -s USR2 1; kill -s KILL -- -1; }) &
    watcher=$!
    (
        exec 3<&- <"$stdin" >/rgrid/ctl/out 2>/rgrid/ctl/err
        read -r pid _ </proc/self/stat
        echo 500 >/proc/self/oom_score_adj
        cd -- "$cwd" || exit 126
        say started "$pid"
        run
    )
    code=$?
    kill -s KILL "$watcher"
    wait "$watcher"
    if [ "$code" -gt 128 ] && [ "$code" -le 192 ]; then
        say exited $((code - 128))
    else
        say exited $((code * 256))
    fi
}

umask 022
trap 'exit 0' USR2
setsid=$(command -v setsid)
exec 3</rgrid/ctl/go
while read -r _ <&3; do
    start
done
