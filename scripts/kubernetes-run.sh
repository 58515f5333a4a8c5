#!/usr/bin/env bash
# Runs the `kingpost` command inside of a cluster, as the user of RabbitMQ that is meant for it: makes a Job of the suspended
# CronJob `kingpost-operator`, or `kingpost-doctor`, prints what it prints, ends with its exit code, and deletes the Job.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/kubernetes-run.sh COMMAND [ARGUMENT...]
       scripts/kubernetes-run.sh --fetch FILE

  scripts/kubernetes-run.sh doctor
  scripts/kubernetes-run.sh status
  scripts/kubernetes-run.sh dead list --scheme purchase-stockin
  scripts/kubernetes-run.sh dead replay --all --yes --reason 'ticket 4711'

KUBECTL    what is called [kubectl]; its own context counts
NAMESPACE  where Kingpost lives [kingpost]
TIMEOUT    how long the command may take, in seconds [3600]

There is no terminal, so that what would ask needs --yes. Files that a command writes are there for the next one, in the volume
kingpost-files; --fetch brings one of them here.
TEXT
}

case ${1:-} in
'') usage >&2; exit 64 ;;
-h | --help) usage; exit 0 ;;
esac

die() { echo "kubernetes-run: $2" >&2; exit "$1"; }
for argument in "$@"; do
    [[ $argument != *[[:cntrl:]]* ]] || die 64 "a control character in an argument"
done

read -ra kubectl <<<"${KUBECTL:-kubectl} --namespace ${NAMESPACE:-kingpost}"
timeout=${TIMEOUT:-3600}
name=kingpost-run-$(date +%s)-$$
waited=0

# begin TEMPLATE PATCH: makes the Job of a suspended CronJob, which goes with this script.
begin() {
    "${kubectl[@]}" create job "$name" --from="cronjob/$1" --dry-run=client --output=json |
        "${kubectl[@]}" patch --local --filename=- --type=json --patch="$2" --output=json |
        "${kubectl[@]}" create --filename=- >/dev/null
    trap '"${kubectl[@]}" delete job "$name" --wait=false >/dev/null' EXIT
}

# What is asked of the state of the first container of the pod.
of_pod() {
    "${kubectl[@]}" get pods --selector="job-name=$name" \
        --output="jsonpath={range .items[*]}{.status.containerStatuses[0].state$1}{end}"
}

# A container that has ended is no longer ready, and one that fails at once never was: so its state is asked for.
wait_for_start() {
    local state=
    for (( ; waited < timeout; waited++)); do
        state=$(of_pod '')
        case $state in
        *'"terminated"'* | *'"running"'*) return ;;
        *ImagePullBackOff* | *ErrImagePull* | *CreateContainerConfigError* | *InvalidImageName*)
            die 69 "the command can't start: $state"
            ;;
        esac
        sleep 1
    done
    die 69 "no start within $timeout s; kubectl describe pod --selector=job-name=$name may say why"
}

if [ "$1" = --fetch ]; then
    [ $# -eq 2 ] || { usage >&2; exit 64; }
    here=${2##*/}
    [ ! -e "$here" ] || die 64 "$here is here already"
    begin kingpost-files '[]'
    wait_for_start
    "${kubectl[@]}" exec "job/$name" -- cat "/files/$2" >"$here.part" || {
        rm -f -- "$here.part"
        die 66 "no file $2 could be read; these are there: $("${kubectl[@]}" exec "job/$name" -- ls /files | tr '\n' ' ')"
    }
    mv -- "$here.part" "$here"
    exit 0
fi

# The doctor has each stage's user; its template says so, and names the command.
template=kingpost-operator
if [ "$1" = doctor ]; then
    template=kingpost-doctor
    shift
fi

# The arguments as a list in JSON.
list=
for argument in "$@"; do
    argument=${argument//\\/\\\\}
    list+=${list:+, }\"${argument//\"/\\\"}\"
done
begin "$template" '[{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": ['"$list"']}]'
wait_for_start
"${kubectl[@]}" logs --follow "job/$name"
for (( ; waited < timeout; waited++)); do
    code=$(of_pod .terminated.exitCode)
    [ -z "$code" ] || exit "$code"
    sleep 1
done
die 69 "no end within $timeout s"
