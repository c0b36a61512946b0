# Leases, and the keys that live with them.
. ./lib.sh

run etcdctl lease list
grant=$(etcdctl lease grant 1000 -w json)
echo "$grant"
id=$(printf '%x' "$(echo "$grant" | sed 's/.*"ID":\([0-9]*\).*/\1/')")
run etcdctl lease grant 500
run etcdctl lease grant 500 -w table
run etcdctl lease grant 0
run etcdctl lease grant 9000000001
run etcdctl lease grant
run etcdctl lease grant soon
run etcdctl put l/1 x --lease="$id"
run etcdctl put l/2 x --lease="$id"
run etcdctl put l/3 x
run etcdctl get l/1 -w json
run etcdctl put l/2 y --ignore-lease
run etcdctl put l/1 y
run etcdctl lease timetolive "$id" --keys
run etcdctl lease timetolive "$id"
run etcdctl lease timetolive 7777
run etcdctl lease timetolive 7777 -w json
run etcdctl lease keep-alive --once "$id"
run etcdctl lease keep-alive --once 7777
run etcdctl lease keep-alive zz
run etcdctl lease list -w json
run etcdctl lease revoke "$id"
run etcdctl lease revoke "$id"
run etcdctl get l/ --prefix -w json
run etcdctl put l/1 y --lease="$id"

# One that ends by itself takes its key along.
short=$(printf '%x' "$(etcdctl lease grant 1 -w json | sed 's/.*"ID":\([0-9]*\).*/\1/')")
follow ends etcdctl watch ends --rev=1 -w json
run etcdctl put ends soon --lease="$short"
shown ends 2
stop ends
run etcdctl lease timetolive "$short"
follow keep etcdctl lease keep-alive 12ab
shown keep 1
stop keep
