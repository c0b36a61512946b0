# Three nodes on fixed ports of this machine, for the benchmarks. Sourced, not run. The ports are below those that
# the kernel gives to outgoing connections, so that a node that is restarted finds its own free.
# Needs $work, a directory; sets $pids, by number of the node.

pids=()
endpoints=127.0.0.1:21079,127.0.0.1:22079,127.0.0.1:23079

# start_node NAME NUMBER BINARY…: starts or restarts one node, with etcd's flags.
start_node() {
  local name=$1 n=$2
  shift 2
  "$@" --name "n$n" --data-dir "$work/$name-$n" \
    --listen-client-urls "http://127.0.0.1:2${n}079" --advertise-client-urls "http://127.0.0.1:2${n}079" \
    --listen-peer-urls "http://127.0.0.1:2${n}080" --initial-advertise-peer-urls "http://127.0.0.1:2${n}080" \
    --initial-cluster n1=http://127.0.0.1:21080,n2=http://127.0.0.1:22080,n3=http://127.0.0.1:23080 \
    --initial-cluster-token bench --initial-cluster-state new --log-level error >>"$work/$name-$n.log" 2>&1 &
  pids[n]=$!
}

# start_cluster NAME BINARY…: starts three and waits until they take a write.
start_cluster() {
  local name=$1 n
  shift
  for n in 1 2 3; do start_node "$name" "$n" "$@"; done
  local until=$((SECONDS + 30))
  until "$quorate" put --endpoints "$endpoints" quorate-bench/ready yes >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || { echo "$name did not start:" >&2; tail -5 "$work/$name"-*.log >&2; exit 1; }
    sleep 0.2
  done
}

# stop_cluster: kills what runs, quietly.
stop_cluster() {
  [ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
  [ ${#pids[@]} -eq 0 ] || wait "${pids[@]}" 2>/dev/null || true
  pids=()
}
