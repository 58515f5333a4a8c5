#!/usr/bin/env bash
# Installs another RabbitMQ beside the one of this system, to run the tests with it: a small Debian of its own in a
# directory, from the mirror this machine's apt uses. Starts nothing and changes nothing outside of that directory.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/rabbitmq.sh SUITE|VERSION [DIR]

  SUITE    a suite of Debian, such as trixie or sid: the RabbitMQ of that suite
  VERSION  the beginning of a version, such as 4.0 or 4.3.6: the first suite that has it
  DIR      where to put it; ${XDG_CACHE_HOME:-~/.cache}/kingpost/rabbitmq-SUITE unless said otherwise

Prints the directory at the end. Run the tests with it: make test-rabbitmq ROOT=DIR
Needs root (debootstrap does), some 600 MB and two minutes. To remove it, delete the directory.
TEXT
}

say() { echo "rabbitmq: $*" >&2; }
die() { say "$@"; exit 1; }

case ${1:-} in '' | -h | --help) usage; exit $([ $# -eq 0 ] && echo 64 || echo 0) ;; esac
[ $# -le 2 ] || { usage >&2; exit 64; }

# Newest last: a version is looked for in this order.
suites=(bookworm trixie forky sid)
wanted=$1

[ "$(id -u)" -eq 0 ] || die "this needs root, because debootstrap does: run it with sudo"
command -v apt-get >/dev/null || die "this needs a Debian or one of its relatives; elsewhere unpack RabbitMQ's" \
    "generic-unix archive and give its directory to the tests"
if ! command -v debootstrap >/dev/null; then
    say "installing debootstrap"
    apt-get -qq update && apt-get -qq install --no-install-recommends -y debootstrap >/dev/null ||
        die "debootstrap is missing and could not be installed"
fi

# The mirror comes from the machine's own settings, because it is the one that can be reached from here.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1 || true)
[ -n "$mirror" ] || die "apt has no package lists yet: run apt-get update first"
arch=$(dpkg --print-architecture)
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
[ -z "${https_proxy:-}" ] || export https_proxy

work=$(mktemp -d)
unfinished=''
trap 'rm -rf -- "$work" ${unfinished:+"$unfinished"}' EXIT

# Asks apt, with lists of its own, for the version of rabbitmq-server in a suite. Lists of sid may be past their date.
version_in() {
    local suite=$1
    mkdir -p "$work/$suite/lists/partial" "$work/$suite/cache"
    printf 'deb %s %s main\n' "$mirror" "$suite" >"$work/$suite/sources.list"
    local options=(
        -o "Dir::Etc::SourceList=$work/$suite/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$work/$suite/lists" -o "Dir::Cache=$work/$suite/cache"
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none
    )
    apt-get -qq "${options[@]}" update >/dev/null 2>&1 || return 0
    apt-cache "${options[@]}" madison rabbitmq-server 2>/dev/null | awk -F ' *[|] *' 'NR == 1 { print $2 }'
}

suite=$wanted
if [[ $wanted =~ ^[0-9] ]]; then
    suite=''
    for candidate in "${suites[@]}"; do
        version=$(version_in "$candidate")
        say "$candidate has RabbitMQ ${version:-(unknown)}"
        if [[ $version == "$wanted" || $version == "$wanted".* || $version == "$wanted"-* ]]; then
            suite=$candidate
            break
        fi
    done
    [ -n "$suite" ] || die "no suite of ${suites[*]} has RabbitMQ $wanted; give the name of another suite"
fi
[[ $suite =~ ^[a-z][a-z-]*$ ]] || die "'$suite' is neither a suite nor a version"

root=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/kingpost/rabbitmq-$suite}
installed() { find "$root"/usr/lib/rabbitmq/lib -maxdepth 1 -name 'rabbitmq_server-*' 2>/dev/null | head -n 1; }
if [ "$(cat "$root/.kingpost-suite" 2>/dev/null)" = "$suite" ]; then
    say "$(basename "$(installed)") is there already"
    echo "$root"
    exit 0
fi
[ -z "$(ls -A "$root" 2>/dev/null)" ] || die "$root is not empty; give another directory, or delete it first"
unfinished=$root
mkdir -p "$root"
chmod 755 "$root"

log=$work/log
run() { "$@" >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "$1 failed; see its words above"; }; }
script=()
[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=(sid)

say "the base of $suite"
run debootstrap --variant=minbase --arch="$arch" "$suite" "$root" "$mirror" ${script+"${script[@]}"}

# Nothing may start in there, and the node's name has to lead somewhere.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf 'deb %s %s main\n' "$mirror" "$suite" >"$root/etc/apt/sources.list"

say "RabbitMQ of $suite"
# In a mount namespace of its own, so that no mount is left behind however this ends.
inside() {
    # The words are for the shell in there.
    # shellcheck disable=SC2016
    run unshare --mount --propagation private /bin/sh -c '
        root=$1; shift
        mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" || exit 1
        exec chroot "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 LANG=C.UTF-8 "$@"
    ' sh "$root" "$@"
}
inside apt-get -qq -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none update
inside apt-get -qq install --no-install-recommends -y rabbitmq-server
inside apt-get -qq clean
rm -rf -- "$root"/var/lib/apt/lists/*

[ -n "$(installed)" ] || die "there is no RabbitMQ in $root after all"
echo "$suite" >"$root/.kingpost-suite"
unfinished=''
say "$(basename "$(installed)") is in $root"
echo "$root"
