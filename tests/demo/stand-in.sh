#!/bin/sh
# Stands for each tool that tests/run-kind.sh calls, by the name as which it is
# called, in the tests of tests/demo.rs. A pod of an older proxy is there until the
# script has waited for it to go.
set -eu
PATH=$REAL_PATH
call="${0##*/} $*"
echo "$call" >>calls
case $call in
"curl "*"--max-time 2 "*) [ -e port-in-use ] || exit 7 ;;
"curl "*) echo my-app-0 ;;
"sleep 1") [ -e stuck ] || rm -f old-pod ;;
"sleep "*) exec $call ;;
*" get deployment my-app-zpa --output jsonpath={.spec.replicas}") printf %s "$REPLICAS" ;;
*" get deployment my-app --output jsonpath={.spec.replicas}") printf 0 ;;
*" get pods --selector $PROXIES"*)
    seq -f pod/my-app-zpa-%g "$REPLICAS"
    cat old-pod 2>/dev/null || true
    ;;
*" port-forward deployment/my-app-zpa "*)
    echo 'Forwarding from 127.0.0.1:8080 -> 8080'
    echo 'Forwarding from 127.0.0.1:40001 -> 8081'
    echo 'Forwarding from [::1]:40001 -> 8081'
    exec sleep "$LIMIT"
    ;;
*" logs "*) echo '[pod/my-app-zpa-1/zpa] what it says' ;;
esac
