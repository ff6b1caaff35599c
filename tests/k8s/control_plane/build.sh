#!/usr/bin/env bash
# Builds the Kubernetes 1.20 control plane from Debian's own packages; prints the folder of its binaries.
#
#   tests/k8s/control_plane/build.sh [--check | --key]
#
# --check builds nothing: exit 0 when the binaries are there, 1 when not. --key prints the cache's key.
#
# Debian ships kubectl alone, but its source package holds (and vendors) all of Kubernetes. That package,
# Go, etcd and a few files are downloaded with apt and unpacked below the cache: nothing is installed, no
# root is needed, and apt's own lists and settings stay as they are (a list with source packages is made
# beside them). Costs 6 to 8 minutes of one core and 2 GB of disk while it builds, 170 MB
# afterwards.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# All that decides what comes out: Debian's release and these lines, their comments left out.
key=kubernetes-1.20-$( (. /etc/os-release; echo "${ID:-}-${VERSION_ID:-}"; uname -m; grep -vE '^ *(#|$)' "$here/build.sh") | sha256sum | cut -c1-12)
home=${SHOAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal}
bin=$home/k8s/$key/bin
binaries=(etcd kube-apiserver kube-controller-manager kube-scheduler)

fail() {
    printf 'control plane: %s\n' "$@" >&2
    exit 1
}

complete() {
    local name
    for name in "${binaries[@]}"; do
        [[ -x $bin/$name ]] || return 1
    done
}

case ${1:-} in
--key) echo "$key"; exit 0 ;;
--check) complete && echo "$bin" && exit 0; exit 1 ;;
'') ;;
*) fail "unknown argument $1" ;;
esac

missing=()
for tool in apt-get:apt dpkg-source:dpkg-dev dpkg-deb:dpkg xz:xz-utils flock:util-linux; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
((${#missing[@]} == 0)) || fail "this machine lacks: ${missing[*]}" \
    "it needs Debian 12 (bookworm) and: apt-get install ${missing[*]}"

mkdir -p "$home/k8s/$key"
# Two builds at once would take two cores for one result.
exec 9>"$home/k8s/$key/lock"
flock 9
if complete; then
    echo "$bin"
    exit 0
fi
work=$home/k8s/$key/work
rm -rf "$work"
mkdir -p "$work"
log=$home/k8s/$key/build.log
: >"$log"
trap 'code=$?; if ((code)); then tail -n 20 "$log" >&2; printf "control plane: the build failed, see %s\n" "$log" >&2; fi; exit $code' EXIT
say() { printf 'control plane: %s (%s s)\n' "$1" "$SECONDS" | tee -a "$log" >&2; }

# --- Packages: the same mirrors and keys as the system's, with sources, in lists of our own.
say 'reading package lists'
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/apt/sources.list.d"
cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$work/apt/sources.list.d/" 2>/dev/null || true
if [[ -e /etc/apt/sources.list ]]; then
    cp /etc/apt/sources.list "$work/apt/sources.list.d/main.list"
fi
for list in "$work"/apt/sources.list.d/*.sources; do
    [[ -e $list ]] && sed -i -E 's/^Types:.*/Types: deb deb-src/' "$list"
done
for list in "$work"/apt/sources.list.d/*.list; do
    [[ -e $list ]] && sed -E -n 's/^deb /deb-src /p' "$list" >"$list.src" && cat "$list.src" >>"$list" && rm "$list.src"
done
apt_options=(
    -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/apt/sources.list.d"
    -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -o "APT::Sandbox::User="
    -o "Acquire::Retries=3"
)
apt-get "${apt_options[@]}" update >>"$log" 2>&1

say 'downloading Kubernetes, Go and etcd'
mkdir -p "$work/debs" "$work/root"
(
    cd "$work/debs"
    go=$(apt-cache "${apt_options[@]}" depends golang-go | sed -n -E 's/^ *Depends: (golang-1\.[0-9]+-go)$/\1/p')
    apt-get "${apt_options[@]}" download -qq "$go" "${go%-go}-src" etcd-server golang-github-modern-go-reflect2-dev
) >>"$log" 2>&1
for deb in "$work"/debs/*.deb; do
    dpkg-deb --extract "$deb" "$work/root"
done
(cd "$work" && apt-get "${apt_options[@]}" source -qq --only-source kubernetes) >>"$log" 2>&1
rm -rf "$work/apt" "$work/debs"
source=$(echo "$work"/kubernetes-*/)
[[ $source == */kubernetes-1.20.5+really1.20.2/ ]] ||
    fail "this Debian has ${source#"$work"/}, and the patches below are for 1.20.2 of Debian 12 (bookworm)"
source=${source%/}

# --- Two patches. Nobody met either: Debian builds kubectl alone from this tree.
# The vendored reflect2 reads Go's map iterator at offsets that later Go moved: the server dies at the
# first custom resource. Debian has the version that asks the runtime instead.
rm -rf "$source/vendor/github.com/modern-go/reflect2"
cp -rL "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" "$source/vendor/github.com/modern-go/"
# The validator of CRDs takes a zero value ("", 0, false) for null: its comparison of two reflect.Values
# has another answer since Go 1.18. A schema with `default: ""` was refused.
for file in vendor/github.com/go-openapi/validate/type.go vendor/k8s.io/kube-openapi/pkg/validation/validate/type.go; do
    sed -i 's/if data == nil || reflect.DeepEqual(.*)) {$/if data == nil {/' "$source/$file"
    grep -q 'if data == nil {$' "$source/$file" || fail "the patch of $file did not apply"
done

# --- GOPATH mode, as in its day.
export GOROOT GOPATH GO111MODULE=off CGO_ENABLED=0 GOCACHE=$work/gocache GOFLAGS=-tags=providerless
GOROOT=$(echo "$work"/root/usr/lib/go-1.*)
GOPATH=$work/gopath
module=k8s.io/kubernetes
mkdir -p "$GOPATH/src/k8s.io"
ln -s "$source" "$GOPATH/src/$module"
cd "$GOPATH/src/$module"
go=$GOROOT/bin/go

say 'generating the OpenAPI definitions'
mkdir -p "$work/bin"
"$go" build -o "$work/bin/openapi-gen" "$module/vendor/k8s.io/kube-openapi/cmd/openapi-gen" >>"$log" 2>&1
# Every package that carries the marker, by its import path.
marked=$(grep -rlE --include='*.go' '^// \+k8s:openapi-gen=' pkg cmd plugin staging/src |
    grep -vE '_test\.go|zz_generated|testdata|code-generator|sample|kube-openapi' | xargs -n1 dirname | sort -u |
    sed -E "s#^staging/src/#$module/vendor/#; s#^(pkg|cmd|plugin)#$module/\1#" | paste -sd,)
"$work/bin/openapi-gen" --logtostderr --input-dirs "$marked" --output-package "$module/pkg/generated/openapi" \
    --output-file-base zz_generated.openapi --go-header-file hack/boilerplate/boilerplate.generatego.txt \
    --report-filename /dev/null --output-base "$GOPATH/src" >>"$log" 2>&1

version=$module/vendor/k8s.io/component-base/version
for name in kube-apiserver kube-controller-manager kube-scheduler; do
    say "compiling $name"
    "$go" build -ldflags "-s -w -X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20" \
        -o "$work/bin/$name" "$module/cmd/$name" >>"$log" 2>&1
done
cp "$work/root/usr/bin/etcd" "$work/bin/etcd"
rm "$work/bin/openapi-gen"

# In one step: what is in `bin` is complete.
rm -rf "$bin"
mv "$work/bin" "$bin"
chmod -R u+w "$work"
rm -rf "$work"
say "built, $(du -sh "$bin" | cut -f1)"
echo "$bin"
