#!/usr/bin/env bash
# Runs the `kingpost` command inside of a cluster, as the user of RabbitMQ that is meant for it: makes a Job of the suspended
# CronJob `kingpost-operator`, or `kingpost-doctor`, prints what it prints, ends with its exit code, and deletes the Job.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/kubernetes-run.sh COMMAND [ARGUMENT...]

  scripts/kubernetes-run.sh doctor
  scripts/kubernetes-run.sh status
  scripts/kubernetes-run.sh dead list --scheme purchase-stockin
  scripts/kubernetes-run.sh dead replay --all --yes --reason 'ticket 4711'

KUBECTL    what is called [kubectl]; its own context counts
NAMESPACE  where Kingpost lives [kingpost]
TIMEOUT    how long the command may take, in seconds [3600]

There is no terminal, so that what would ask needs --yes. A file that the command writes is gone with its pod.
TEXT
}

case ${1:-} in
'') usage >&2; exit 64 ;;
-h | --help) usage; exit 0 ;;
esac

read -ra kubectl <<<"${KUBECTL:-kubectl} --namespace ${NAMESPACE:-kingpost}"
timeout=${TIMEOUT:-3600}
name=kingpost-run-$(date +%s)-$$

# The doctor has each stage's user; its template says so, and names the command.
template=kingpost-operator
if [ "$1" = doctor ]; then
    template=kingpost-doctor
    shift
fi

# The arguments as a list in JSON. A control character has no place in any of them.
list=
for argument in "$@"; do
    [[ $argument != *[[:cntrl:]]* ]] || { echo "kubernetes-run: a control character in an argument" >&2; exit 64; }
    argument=${argument//\\/\\\\}
    list+=${list:+, }\"${argument//\"/\\\"}\"
done
patch='[{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": ['$list']}]'

"${kubectl[@]}" create job "$name" --from="cronjob/$template" --dry-run=client --output=json |
    "${kubectl[@]}" patch --local --filename=- --type=json --patch="$patch" --output=json |
    "${kubectl[@]}" create --filename=- >/dev/null
trap '"${kubectl[@]}" delete job "$name" --wait=false >/dev/null' EXIT

# A container that has ended is no longer ready, and one that fails at once never was: so its state is asked for.
code=
for ((waited = 0; waited < timeout; waited++)); do
    state=$("${kubectl[@]}" get pods --selector="job-name=$name" \
        --output='jsonpath={range .items[*]}{.status.containerStatuses[0].state}{end}')
    case $state in
    *'"terminated"'* | *'"running"'*) break ;;
    *ImagePullBackOff* | *ErrImagePull* | *CreateContainerConfigError* | *InvalidImageName*)
        echo "kubernetes-run: the command can't start: $state" >&2
        exit 69
        ;;
    esac
    sleep 1
done
"${kubectl[@]}" logs --follow "job/$name"
for ((; waited < timeout; waited++)); do
    code=$("${kubectl[@]}" get pods --selector="job-name=$name" \
        --output='jsonpath={range .items[*]}{.status.containerStatuses[0].state.terminated.exitCode}{end}')
    [ -z "$code" ] || exit "$code"
    sleep 1
done
echo "kubernetes-run: no end within $timeout s" >&2
exit 69
