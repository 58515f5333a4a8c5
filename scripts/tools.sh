#!/usr/bin/env bash
# Fetches the programs that check what is deployed: Prometheus and Alertmanager with their tools, kubectl, kustomize and
# docker-compose, unpacked into a directory of their own from the Debian mirror that this machine's apt uses, and the
# validators that PyPI has. Installs nothing into the system, needs no root, and takes no time when all is there.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/tools.sh [--bin]

  --bin    prints the directory of the programs, without fetching anything

The programs come from Debian's sid, since they are built with Go and run on any release from Debian 12 on.
They go to ${XDG_CACHE_HOME:-~/.cache}/kingpost/tools; to remove them, delete that directory.
TEXT
}

say() { echo "tools: $*" >&2; }
die() { say "$@"; exit 1; }

dir=${XDG_CACHE_HOME:-$HOME/.cache}/kingpost/tools
cd "$(dirname "$0")/.."
case ${1:-} in
'') ;;
--bin) echo "$dir/bin"; exit 0 ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 64 ;;
esac

packages=(prometheus promtool prometheus-alertmanager kubectl kustomize docker-compose)
programs=(usr/bin/prometheus usr/bin/promtool usr/bin/prometheus-alertmanager usr/bin/amtool usr/bin/kubectl
    usr/bin/kustomize)
requirements=tests/python/validators.txt

# A change of this list or of the validators' versions fetches anew.
wanted=$(printf '%s\n' "${packages[@]}" && cat "$requirements")
[ "$(cat "$dir/installed.txt" 2>/dev/null)" = "$wanted" ] && exit 0

command -v apt-get >/dev/null ||
    die "this needs apt of a Debian or one of its relatives; elsewhere put ${programs[*]##*/} and docker-compose into" \
        "$dir/bin, and the validators of $requirements into a virtual environment $dir/python"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1 || true)
[ -n "$mirror" ] || die "apt has no package lists yet: have root run apt-get update first"

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
[ "$(cat "$dir/installed.txt" 2>/dev/null)" = "$wanted" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
run() { "$@" >>"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; die "$1 failed; see its words above"; }; }

say "fetching ${packages[*]} (some 150 MB, the first time only)"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages" "$work/root"
printf 'deb %s sid main\n' "$mirror" >"$work/sources.list"
# Lists of sid may be past their date, and what this system has installed is of no interest.
options=(
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Dir::State::status=/dev/null -o Acquire::Check-Valid-Until=false
    -o Acquire::Languages=none -o APT::Sandbox::User=
)
run apt-get -qq "${options[@]}" update
for package in "${packages[@]}"; do
    (cd "$work/packages" && run apt-get -qq "${options[@]}" download "$package")
done
for package in "$work"/packages/*.deb; do
    run dpkg-deb -x "$package" "$work/root"
done

rm -rf -- "$dir/bin"
mkdir -p "$dir/bin"
compose=$(find "$work/root" -type f -name docker-compose | head -n 1)
for program in "${programs[@]}" "${compose#"$work/root/"}"; do
    [ -f "$work/root/$program" ] || die "$program is in none of ${packages[*]}"
    cp -- "$work/root/$program" "$dir/bin/"
done
mv -- "$dir/bin/prometheus-alertmanager" "$dir/bin/alertmanager"

say "fetching the validators of $requirements"
rm -rf -- "$dir/python"
run python3 -m venv "$dir/python"
run "$dir/python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
printf '%s\n' "$wanted" >"$dir/installed.txt"
say "in $dir: $(ls "$dir/bin" | tr '\n' ' ')"
