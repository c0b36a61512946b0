# Locks and elections.
. ./lib.sh

run etcdctl lock mine echo held
run etcdctl lock mine -- sh -c 'exit 3'
run etcdctl lock mine -- sh -c 'etcdctl get "$ETCD_LOCK_KEY" -w fields'
follow first etcdctl lock shared
shown first 1
follow second etcdctl lock shared
until_printed '"Count" : 2' etcdctl get shared/ --prefix --count-only -w fields
run etcdctl get shared/ --prefix --count-only -w fields
stop first
shown second 1
stop second
run etcdctl lock
run etcdctl lock mine --ttl=0 echo held

follow leader etcdctl elect post one
shown leader 2
follow listener etcdctl elect -l post
shown listener 2
follow heir etcdctl elect post two
stop leader
shown heir 2
shown listener 4
stop listener
stop heir
run etcdctl elect
run etcdctl elect post
