# etcdctl's own measurements, in their smallest size. How they end depends on the machine; that they can be made
# does not.
. ./lib.sh

# figures NAME…: prints which figures a measurement has come to, whatever they are.
figures() {
    grep -oE "$1"
}

run etcdctl check datascale --load=s --auto-compact --auto-defrag | figures '^Start .*|Approximate system memory used'
# It takes a minute.
run etcdctl check perf --load=s --auto-compact --auto-defrag | figures 'Throughput|Slowest request|Stddev|Compacted|Defragmented'
run etcdctl get /etcdctl-check --prefix --keys-only
run etcdctl check perf --load=none
run etcdctl check datascale --load=none
run etcdctl check
