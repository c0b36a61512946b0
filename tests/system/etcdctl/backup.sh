# What etcdctl does with the file of a backup, and what reads it.
. ./lib.sh

quorate() {
    "$QUORATE" "$@"
}

run etcdctl put a 1
run etcdctl snapshot save "$WORK/backup.db"
run etcdctl snapshot status "$WORK/backup.db"
run etcdctl snapshot restore "$WORK/backup.db" --data-dir="$WORK/restored"
run quorate snapshot status "$WORK/backup.db" -w simple
