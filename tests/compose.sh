#!/usr/bin/env bash
# Runs docker-compose.yml for real where no registry of images can be reached: a Docker engine of its own in a network
# namespace of its own, base images made from this machine's Debian mirror, the image built by the Dockerfile, then the
# whole try-out, scaled, stopped in part, and taken down. Not part of the tests: it needs root, some 6 GB and the better part
# of an hour the first time, two minutes later on.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/compose.sh [--keep] [--images]

  --keep     leaves it running at the end, and says how it is reached and ended
  --images   makes the images and stops there

Everything lies in ${KINGPOST_COMPOSE_DIR:-${XDG_CACHE_HOME:-~/.cache}/kingpost/compose}; to be rid of it, delete that directory.
TEXT
}

say() { printf '%s compose: %s\n' "$(date +%T)" "$*"; }
die() { say "$@" >&2; exit 1; }

keep=false images_only=false
for argument in "$@"; do
    case $argument in
    --keep) keep=true ;;
    --images) images_only=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
    esac
done

cd "$(dirname "$0")/.."
dir=${KINGPOST_COMPOSE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kingpost/compose}
space=kingpost-compose
[ "$(id -u)" -eq 0 ] || die "this needs root, because an engine and debootstrap do: run it with sudo"
for program in curl jq debootstrap ip nsenter; do
    command -v "$program" >/dev/null || die "$program is missing: apt-get install curl jq debootstrap iproute2 util-linux"
done
mkdir -p "$dir/engine" "$dir/data" "$dir/exec"
# Held by the engine as well, for as long as it runs.
exec 9>"$dir/lock"
flock -n 9 || die "another run, or one that was kept, uses $dir"
scripts/tools.sh
tools=$(scripts/tools.sh --bin)
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1 || true)
[ -n "$mirror" ] || die "apt has no package lists yet: run apt-get update first"

# The engine, unpacked and not installed, so that no service starts.
engine=$dir/engine
if [ ! -x "$engine/usr/sbin/dockerd" ]; then
    say "fetching an engine"
    mkdir -p "$dir/packages"
    (cd "$dir/packages" && apt-get -qq -o APT::Sandbox::User= download docker.io containerd runc iptables \
        libnftnl11 libip4tc2 libip6tc2 libxtables12 libnfnetlink0 libnetfilter-conntrack3)
    for package in "$dir"/packages/*.deb; do dpkg-deb -x "$package" "$engine"; done
    rm -rf "$dir/packages"
fi
mkdir -p "$engine/links"
for family in iptables ip6tables; do
    for program in $family $family-save $family-restore; do
        ln -sf "$engine/usr/sbin/xtables-legacy-multi" "$engine/links/$program"
    done
done

export DOCKER_HOST=unix://$dir/docker.sock DOCKER_BUILDKIT=1
docker() { "$engine/usr/bin/docker" "$@"; }
within() { nsenter --net="/run/netns/$space" "$@"; }
compose() { "$tools/docker-compose" -f docker-compose.yml -f "$dir/local.yml" "$@"; }

daemon=
finished=false
end() {
    local status=$?
    if $keep && $finished; then
        say "it runs on: nsenter --net=/run/netns/$space curl -s http://127.0.0.1:8099/admin/kingdee/summary"
        say "end it: DOCKER_HOST=$DOCKER_HOST $tools/docker-compose down -v; kill $daemon; ip netns del $space"
        return
    fi
    if [ -n "$daemon" ]; then
        compose --profile '*' down -v --remove-orphans >>"$dir/log" 2>&1 || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    ip netns del "$space" 2>/dev/null || true
    [ $status -eq 0 ] || say "failed; see $dir/log and $dir/engine.log" >&2
}
trap end EXIT

: >"$dir/log"
echo 'services: {}' >"$dir/local.yml"
ip netns add "$space" 2>/dev/null || die "the network namespace $space is there already: another run, or one that was kept"
within ip link set lo up
# `ip netns exec` would hide the control groups; this enters the network alone.
PATH=$engine/links:$engine/usr/bin:$engine/usr/sbin:$PATH LD_LIBRARY_PATH=$engine/usr/lib/$(uname -m)-linux-gnu \
    XTABLES_LIBDIR=$engine/usr/lib/$(uname -m)-linux-gnu/xtables \
    nsenter --net="/run/netns/$space" "$engine/usr/sbin/dockerd" -H "$DOCKER_HOST" --data-root "$dir/data" --exec-root "$dir/exec" \
    -p "$dir/docker.pid" --storage-driver overlay2 >"$dir/engine.log" 2>&1 &
daemon=$!

# Looks at a condition again and again until it holds or so many seconds have passed.
until_true() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >>"$dir/log" 2>&1; do
        [ $SECONDS -lt $deadline ] || die "gave up waiting for $what"
        sleep 0.5
    done
}
until_true "the engine" 60 docker info

has_image() { docker image inspect "$1" >/dev/null 2>&1; }
# Makes an image of what a function puts into a directory.
made() {
    local image=$1 root
    shift
    root=$(mktemp -d "$dir/root.XXXXXX")
    "$@" "$root"
    chmod 755 "$root"
    tar -C "$root" -c . | docker import "${changes[@]}" - "$image" >>"$dir/log"
    rm -rf -- "$root"
}

rust_root() {
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$1" "$mirror" >>"$dir/log" 2>&1
    local toolchain
    toolchain=$(rustc --print sysroot)
    mkdir -p "$1/usr/local/rust/lib/rustlib" "$1/usr/local/cargo/registry"
    cp -a "$toolchain/bin" "$1/usr/local/rust/"
    find "$toolchain/lib" -maxdepth 1 -type f -exec cp -a {} "$1/usr/local/rust/lib/" \;
    cp -a "$toolchain"/lib/rustlib/*-linux-gnu "$1/usr/local/rust/lib/rustlib/"
    # The crates of this machine, because the build reaches no registry.
    cargo fetch --locked >>"$dir/log" 2>&1
    cp -a "${CARGO_HOME:-$HOME/.cargo}/registry/index" "${CARGO_HOME:-$HOME/.cargo}/registry/cache" "$1/usr/local/cargo/registry/"
}
rabbitmq_root() {
    local release
    release=$(scripts/rabbitmq.sh 4.3 2>>"$dir/log" | tail -n 1)
    cp -a "$release/." "$1/"
    rm -rf -- "$1/var/lib/rabbitmq/.erlang.cookie" "$1/var/lib/rabbitmq/mnesia"
    # As in the image whose place it takes, so that any user may run it.
    chmod 1777 "$1/var/lib/rabbitmq" "$1/etc/rabbitmq" "$1/var/log/rabbitmq"
}
# A program with the C library of this machine, and a directory of its own to write to.
program_root() {
    local program=$1 data=$2 root=$3 library
    install -D "$tools/$program" "$root/bin/$program"
    ldd "$tools/$program" | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "$root$library"; done
    install -d -m 755 "$root/etc" && echo 'nobody:x:65534:65534::/:/' >"$root/etc/passwd"
    install -d -o 65534 -g 65534 "$root$data"
    # Debian's Alertmanager doesn't start without these.
    install -d "$root/usr/share/prometheus/alertmanager"
    touch "$root/usr/share/prometheus/alertmanager/default.tmpl" "$root/usr/share/prometheus/alertmanager/email.tmpl"
}

rust=$(sed -n 's/^ARG RUST_IMAGE=//p' Dockerfile)
image_of() { compose config --format json | jq -r --arg name "$1" '.services[$name].image'; }
# It holds the crates, so another lock file wants another image.
lock=$(sha256sum Cargo.lock | cut -c1-16)
if [ "$(docker image inspect --format '{{ index .Config.Labels "lock" }}' "$rust" 2>/dev/null)" != "$lock" ]; then
    say "making $rust"
    changes=(-c "LABEL lock=$lock" -c 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        -c 'ENV CARGO_HOME=/usr/local/cargo' -c 'ENV CARGO_NET_OFFLINE=true')
    made "$rust" rust_root
fi
if ! has_image "$(image_of rabbitmq)"; then
    say "making $(image_of rabbitmq)"
    changes=(-c 'ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        -c 'ENV HOME=/var/lib/rabbitmq' -c 'ENV LANG=C.UTF-8' -c 'VOLUME /var/lib/rabbitmq' -c 'CMD ["rabbitmq-server"]')
    made "$(image_of rabbitmq)" rabbitmq_root
fi
for program in prometheus alertmanager; do
    say "making $(image_of "$program")"
    changes=(-c "ENTRYPOINT [\"/bin/$program\"]" -c 'USER 65534:65534' -c "VOLUME /$program")
    made "$(image_of "$program")" program_root "$program" "/$program"
done

say "building the images of the Dockerfile"
revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
docker build --progress plain --build-arg "REVISION=$revision" -t kingpost:local . >>"$dir/log" 2>&1
docker build --progress plain --build-arg "REVISION=$revision" --target sandbox -t kingpost-sandbox:local . >>"$dir/log" 2>&1
docker image prune -f >>"$dir/log"
docker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | sort
$images_only && exit 0

# There is no Grafana to be had here, and no registry to ask for anything.
cat >"$dir/local.yml" <<'YAML'
services:
  rabbitmq: { pull_policy: never }
  prometheus: { pull_policy: never }
  alertmanager: { pull_policy: never }
  grafana: { profiles: [absent] }
YAML

get() { within curl -fsS --max-time 5 "http://127.0.0.1:$1"; }
audited() { get 8099/admin/kingdee/summary | jq '.by_status.C // 0'; }
has_audited() { [ "$(audited)" -ge "$1" ]; }
# Orders that can be posted and aren't in Kingdee, finished.
pending() { get '8099/admin/wdt/orders?pending=1' | jq -r '.[] | select(.fate == "posts") | .order_no'; }
none_pending() {
    local left
    left=$(pending) && [ -z "$left" ]
}
# How many targets of a job Prometheus reaches.
reached() { get "9090/api/v1/query?query=sum(up%7Bjob%3D%22$1%22%7D)" | jq -r '.data.result[0].value[1] // "0"'; }
reaches() { [ "$(reached "$1")" = "$2" ]; }
containers() { compose ps -q "$1"; }
operator() { compose run --rm -T kingpost "$@" 2>>"$dir/log"; }

# Without a way to write and without rights.
say "$(docker run --rm --read-only --cap-drop ALL --network none kingpost:local kingpost --version), alone"
! docker run --rm --network none --entrypoint /bin/sh kingpost:local -c true >>"$dir/log" 2>&1 || die "there is a shell in the image"

# What a run that was cut off has left would be taken for this one's.
compose --profile '*' down -v --remove-orphans >>"$dir/log" 2>&1
began=$SECONDS
compose up -d --wait >>"$dir/log" 2>&1 || { compose ps -a; compose logs --no-color --tail 20; die "it didn't start"; }
say "everything is up and healthy after $((SECONDS - began)) s"
until_true "most documents in Kingdee" 300 has_audited 900
say "$(audited) documents are audited after $((SECONDS - began)) s"

scaled=(--scale loader=2 --scale transformer=3)
compose up -d --wait "${scaled[@]}" >>"$dir/log" 2>&1 || die "it didn't scale"
for job in kingpost-extractor:1 kingpost-transformer:3 kingpost-loader:2 rabbitmq:1 rabbitmq-queues:1 alertmanager:1; do
    until_true "Prometheus to reach ${job#*:} of ${job%:*}" 120 reaches "${job%:*}" "${job#*:}"
done
say "two loaders and three transformers run, and Prometheus reaches each"

operator doctor --secrets-dir /etc/kingpost/amqp || die "the doctor found something"

# The loader that is active is the one with messages behind it; the older of the two.
first=$(containers loader | xargs docker inspect --format '{{.Created}} {{.Id}}' | sort | awk 'NR == 1 { print $2 }')
docker stop --time 40 "$first" >>"$dir/log"
code=$(docker inspect --format '{{.State.ExitCode}}' "$first")
[ "$code" -eq 0 ] || die "the stopped loader ended with $code"
before=$(audited)
# Some orders a minute are complete by then.
until_true "the other loader to go on" 600 has_audited $((before + 3))
say "one loader was stopped and ended with 0; the other one has audited $(($(audited) - before)) more"

# The source stands still; what is left has to arrive.
within curl -fsS -X DELETE http://127.0.0.1:8099/admin/wdt/live >>"$dir/log"
until_true "what is left, such as $(pending | head -n 3 | xargs)" 900 none_pending
twice=$(get 8099/admin/kingdee/summary | jq '.duplicates | length')
say "$(audited) documents are audited, $(pending | wc -l) are missing, $twice are there twice"
[ "$twice" -eq 0 ] || die "a document is there twice"
operator status
operator dead list
say "users of RabbitMQ: $(compose exec -T rabbitmq rabbitmqctl -q list_connections user --no-table-headers 2>>"$dir/log" | sort | uniq -c | xargs)"
say "alerts that fire: $(get 9090/api/v1/alerts | jq -c '[.data.alerts[] | select(.state == "firing") | .labels.alertname] | unique')"
docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' | sort
finished=true
say "done"
