# What goes to each member by itself, and the change of leader. The system has three.
. ./lib.sh

# All have told their addresses for clients.
until_printed "3 addresses" sh -c 'etcdctl member list -w json | grep -o clientURLs | wc -l | sed "s/$/ addresses/"'
# Each member by its own address, also where there is a balancer.
ETCDCTL_ENDPOINTS=$(etcdctl member list | cut -d, -f5 | tr -d " " | paste -sd,)

# Its endpoints are a flag: etcdctl 3.5.1 finds the variable in its own way the second time that it looks.
move_leader() {
    local endpoints=$ETCDCTL_ENDPOINTS
    (unset ETCDCTL_ENDPOINTS; etcdctl --endpoints="$endpoints" move-leader "$@")
}

# who WHICH: the ids of the members that lead, or do not.
who() {
    etcdctl endpoint status --cluster | awk -F', ' -v leads="$1" '$5 == leads { print $2 }'
}

run sh -c 'etcdctl member list | cut -d, -f2,3,6 | sort'
run etcdctl endpoint health --cluster
run sh -c "etcdctl endpoint status --cluster | awk -F', ' '{ print \$5, \$6 }' | sort"
run sh -c 'etcdctl endpoint status --cluster -w json | grep -o Endpoint'
run sh -c 'etcdctl endpoint status --cluster -w fields | grep -c ClusterID'
run etcdctl put a 1
# Members that have caught up hold the same.
until_printed "one hash" sh -c 'etcdctl endpoint hashkv --cluster | cut -d" " -f2 | sort -u | wc -l | sed "s/^1$/one hash/"'
run sh -c 'etcdctl endpoint hashkv --cluster | wc -l'
run etcdctl defrag --cluster

leader=$(who true)
heir=$(who false | head -n 1)
run move_leader 1234
run move_leader zz
run move_leader
run move_leader "$heir"
until_printed "$heir" who true
[ "$(who true)" = "$heir" ] && echo "the heir leads"
run move_leader "$leader"
run etcdctl get a
run etcdctl endpoint health
