#!/usr/bin/env bash
# Installs what building, testing and the demo need beyond Rust, on Debian and its relatives, and only what is missing.
# Says nothing and takes no time when all is there. Never starts a service and never touches a RabbitMQ that runs.
set -euo pipefail

packages=()

has() { command -v "$1" >/dev/null 2>&1; }

rabbitmq_installed() {
    compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' >/dev/null ||
        compgen -G '/opt/rabbitmq/sbin/rabbitmq-server' >/dev/null
}

rabbitmq_installed || packages+=(rabbitmq-server)
has cc || packages+=(gcc libc6-dev)
has make || packages+=(make)
has python3 || packages+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
has flock || packages+=(util-linux)

if ! has cargo; then
    echo "setup: Rust is missing; install 1.95 or later with rustup (https://rustup.rs), then come back" >&2
    exit 1
fi
[ ${#packages[@]} -eq 0 ] && exit 0

if ! has apt-get; then
    echo "setup: missing: ${packages[*]} (names of Debian packages); install them with this system's own tool" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif has sudo && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "setup: missing: ${packages[*]}; have root run" >&2
    echo "    apt-get update && RUNLEVEL=1 apt-get install --no-install-recommends -y ${packages[*]}" >&2
    exit 1
fi

# Whoever installs a server usually wants it to run; we only want its programs. This is Debian's way of saying so.
policy=/usr/sbin/policy-rc.d
installs_server=false
[[ " ${packages[*]} " == *' rabbitmq-server '* ]] && installs_server=true
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "setup: installing ${packages[*]}"
log=$(mktemp)
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1; }
if ! { apt update && apt install --no-install-recommends -y "${packages[@]}"; }; then
    cat "$log" >&2
    echo "setup: apt-get could not install ${packages[*]}; see its words above" >&2
    exit 1
fi
rm -f "$log"
# Nor should it start with the next boot; whoever installed it before us decided otherwise, and is left alone.
if $installs_server && has systemctl; then
    "${as_root[@]}" systemctl disable rabbitmq-server >/dev/null 2>&1 || true
fi
