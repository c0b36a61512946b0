# Keys and values, in every form of output.
. ./lib.sh

run etcdctl get nothing
run etcdctl put a 1
run etcdctl put a 2 --prev-kv
run etcdctl put b "two words"
feed 'from\nstdin' etcdctl put c
run etcdctl put a --ignore-value
run etcdctl put missing --ignore-value
run etcdctl put a 1 --ignore-value
run etcdctl put a 3 --ignore-lease
run etcdctl put a 3 --lease=4242
run etcdctl put --lease=zz a 3
run etcdctl put
run etcdctl put '' x
run etcdctl put -- -dash --value

run etcdctl get a
run etcdctl get a -w fields
run etcdctl get a -w json
run etcdctl get a --print-value-only
run etcdctl get a --hex
run etcdctl get '' --prefix
run etcdctl get '' --prefix --keys-only
run etcdctl get '' --prefix --count-only -w fields
run etcdctl get a c
run etcdctl get b --from-key
run etcdctl get b --from-key --prefix
run etcdctl get '' --prefix --limit=2
run etcdctl get '' --prefix --order=DESCEND
run etcdctl get '' --prefix --sort-by=MODIFY --order=ASCEND --keys-only
run etcdctl get '' --prefix --sort-by=VERSION --order=DESCEND --keys-only
run etcdctl get '' --prefix --sort-by=CREATE --keys-only
run etcdctl get '' --prefix --sort-by=VALUE --order=DESCEND --keys-only
run etcdctl get '' --prefix --sort-by=nothing
run etcdctl get a --rev=2
run etcdctl get a --rev=100
run etcdctl get a --consistency=s
run etcdctl get a --consistency=x

run etcdctl del nothing
run etcdctl del a --prev-kv
run etcdctl del b c --prev-kv -w json
run etcdctl del '' --prefix -w fields
run etcdctl put back again
run etcdctl get back -w json
run etcdctl get a --rev=3

run etcdctl compaction 5
run etcdctl compaction 5
run etcdctl compaction 500
run etcdctl compaction 6 --physical
run etcdctl compaction
run etcdctl get a --rev=4
run etcdctl get a --rev=6

# Transactions.
feed 'value("back") = "again"\n\nput t 1\nget back\ndel nothing\n\nput t 2\n\n' etcdctl txn
feed 'mod("t") > "0"\nversion("t") = "1"\ncreate("missing") = "0"\n\nget t\nput u "x y"\n\nget back\n\n' etcdctl txn -w json
feed 'value("t") = "9"\n\nput t 3\n\nget t\ndel t --prev-kv\n\n' etcdctl txn
feed '\nput t 1\nput t 2\n\n\n' etcdctl txn
feed 'nonsense\n\nput t 1\n\n\n' etcdctl txn
feed '\nget back\n\n\n' etcdctl txn -w fields
run etcdctl get '' --prefix -w table
run etcdctl put big "$(head -c 130000 /dev/zero | tr '\0' x)"
