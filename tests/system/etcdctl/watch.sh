# Watches: from a revision, with previous values, ranges, commands, mirrors, compaction.
. ./lib.sh

run etcdctl put w/a 1
run etcdctl put w/b 1
run etcdctl put other 1
run etcdctl put w/a 2
run etcdctl del w/b

follow from-2 etcdctl watch w/ --prefix --rev=2
shown from-2 11
stop from-2

follow previous etcdctl watch w/a --rev=2 --prev-kv
shown previous 7
stop previous

follow json etcdctl watch w/ --prefix --rev=5 --prev-kv -w json
shown json 1
stop json

follow fields etcdctl watch w/ --prefix --rev=6 -w fields
shown fields 6
stop fields

follow command etcdctl watch w/ --prefix --rev=2 -- sh -c 'echo "$ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY=$ETCD_WATCH_VALUE"'
shown command 15
stop command

follow live etcdctl watch other --rev=7
run etcdctl put other 2
run etcdctl put other 3
shown live 6
stop live

follow mirror etcdctl make-mirror "$ETCDCTL_ENDPOINTS" --prefix=w/ --dest-prefix=copy/
until_printed copy/a etcdctl get copy/ --prefix --keys-only
run etcdctl get copy/ --prefix
run etcdctl put w/late 3
until_printed copy/late etcdctl get copy/ --prefix --keys-only
run etcdctl get copy/ --prefix
stop mirror

run etcdctl compaction 6
run etcdctl watch w/ --prefix --rev=3
run etcdctl watch
