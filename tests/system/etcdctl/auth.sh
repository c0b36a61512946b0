# Users, roles and what they may do.
. ./lib.sh

run etcdctl auth status
run etcdctl auth enable
run etcdctl auth disable
run etcdctl user add root:secret
run etcdctl user add root:secret
run etcdctl user add :x
run etcdctl user add guest --no-password
feed 'pass\npass\n' etcdctl user add reader --interactive=false
run etcdctl user list
run etcdctl user get root
run etcdctl user get nobody
run etcdctl user delete nobody
feed 'new\n' etcdctl user passwd reader --interactive=false
feed 'new\n' etcdctl user passwd nobody --interactive=false
run etcdctl role add readers
run etcdctl role add readers
run etcdctl role add writers
run etcdctl role list
run etcdctl role get readers
run etcdctl role get nothing
run etcdctl role grant-permission readers read pub/ --prefix
run etcdctl role grant-permission readers readwrite pub/mine
run etcdctl role grant-permission readers read k m
run etcdctl role grant-permission writers write pub/ pub0
run etcdctl role grant-permission nothing read a
run etcdctl role grant-permission readers sing a
run etcdctl role get readers
run etcdctl role revoke-permission readers k m
run etcdctl role revoke-permission readers k m
run etcdctl role get readers -w json
run etcdctl user grant-role reader readers
run etcdctl user grant-role reader readers
run etcdctl user grant-role reader nothing
run etcdctl user grant-role nobody readers
run etcdctl user revoke-role reader writers
run etcdctl user get reader
run etcdctl user get reader --detail
run etcdctl auth enable
run etcdctl user grant-role root root
run etcdctl auth enable
run etcdctl auth status
run etcdctl --user=root:secret auth status

run etcdctl get pub/a
run etcdctl put pub/a 1
run etcdctl --user=root:secret put pub/a 1
run etcdctl --user=root:wrong put pub/a 1
run etcdctl --user=nobody:x put pub/a 1
run etcdctl --user=guest:x get pub/a
run etcdctl --user=reader:new get pub/a
run etcdctl --user=reader:new get pub/ --prefix
run etcdctl --user=reader:new get pub --prefix
run etcdctl --user=reader:new put pub/a 2
run etcdctl --user=reader:new put pub/mine 2 --prev-kv
run etcdctl --user=reader:new del pub/mine
run etcdctl --user=reader:new del pub/a --prev-kv
run etcdctl --user=reader:new user list
run etcdctl --user=reader:new user get reader
run etcdctl --user=reader:new user get root
run etcdctl --user=reader:new role get readers
run etcdctl --user=reader:new role get writers
run etcdctl --user=reader:new role list
run etcdctl --user=reader:new member list
run etcdctl --user=reader:new member remove 1234
run etcdctl --user=reader:new lease list
run etcdctl --user=reader:new alarm list
run etcdctl --user=reader:new compaction 1
run etcdctl --user=reader:new defrag
run etcdctl --user=reader:new snapshot save "$WORK/backup.db"
feed '\nget pub/a\nput pub/a 3\n\n\n' etcdctl --user=reader:new txn
feed 'value("secret") = "1"\n\nget pub/a\n\n\n' etcdctl --user=reader:new txn
feed '\nget pub/a\nput pub/mine 3\n\n\n' etcdctl --user=reader:new txn
run etcdctl --user=reader:new watch secret
follow allowed etcdctl --user=reader:new watch pub/a --rev=2 -w json
shown allowed 1
stop allowed
run etcdctl --user=root:secret user delete root
run etcdctl --user=root:secret role delete root
run etcdctl --user=root:secret user revoke-role root root
run etcdctl --user=root:secret role delete readers
run etcdctl --user=reader:new get pub/a
run etcdctl --user=root:secret user get reader
run etcdctl --user=root:secret user delete reader
run etcdctl --user=reader:new get pub/a
run etcdctl --user=root:secret auth disable
run etcdctl auth status
run etcdctl get pub/ --prefix
