# Members, and what looks after a member. The system has one.
. ./lib.sh

# A node tells its address for clients soon after it is ready.
until_printed clientURLs etcdctl member list -w json
run etcdctl member list
run etcdctl member list -w json
run etcdctl member list -w table
run etcdctl member add second --peer-urls=http://127.0.0.1:4 --learner
run etcdctl member add third --peer-urls=http://127.0.0.1:5 --learner
run etcdctl member add third
run etcdctl member add third --peer-urls=nonsense --learner
# Members are listed by their ids, which are random.
run sh -c 'etcdctl member list | sort -t, -k2'
added=$(etcdctl member list | grep 127.0.0.1:4 | cut -d, -f1)
run etcdctl member promote "$added"
run etcdctl member update "$added" --peer-urls=http://127.0.0.1:6
run etcdctl member update "$added"
run etcdctl member remove "$added"
run etcdctl member remove "$added"
run etcdctl member remove 1234
run etcdctl member remove zz
run etcdctl member promote 1234
run etcdctl member update 1234 --peer-urls=http://127.0.0.1:7
run etcdctl member list

run etcdctl endpoint health
run etcdctl endpoint health -w json
run etcdctl endpoint status
run etcdctl endpoint status -w table
run etcdctl endpoint hashkv
run etcdctl defrag
run etcdctl alarm list
run etcdctl alarm disarm
run etcdctl move-leader 1234
run etcdctl put snap shot
run etcdctl snapshot save "$WORK/backup.db"
run etcdctl snapshot save
run etcdctl snapshot status "$WORK/nothing.db"
run etcdctl snapshot restore "$WORK/nothing.db" --data-dir="$WORK/nothing"
run etcdctl snapshot
run etcdctl compaction 1
run etcdctl version
