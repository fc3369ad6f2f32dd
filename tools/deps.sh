#!/bin/bash
# deps.sh GROUP...: makes sure that what the groups need is here. Probes for the thing itself, so any system
# that has it will do; what is missing is installed with apt-get (through sudo where not root). Without apt-get
# or sudo it prints the one line to type and fails. Groups: build, check, docs, memcheck, analyze, arm64,
# browser, peers, demo.
set -u

# group | probe (a shell command that succeeds when the thing is here) | Debian package
needs='
build | command -v cc | build-essential
build | command -v cmake | cmake
build | command -v ninja | ninja-build
build | command -v pkg-config | pkg-config
build | pkg-config --exists jansson | libjansson-dev
build | pkg-config --exists libpcre2-8 | libpcre2-dev
build | pkg-config --exists libutf8proc | libutf8proc-dev
build | pkg-config --exists yaml-0.1 | libyaml-dev
build | pkg-config --exists libcurl | libcurl4-openssl-dev
build | pkg-config --exists libmicrohttpd | libmicrohttpd-dev
build | pkg-config --exists cmocka | libcmocka-dev
check | command -v c++ | g++
check | command -v git | git
check | command -v mandoc | mandoc
check | command -v doxygen | doxygen
docs | command -v doxygen | doxygen
check | command -v clang | clang
check | clang_has_sanitizers | clang
check | command -v python3 | python3
check | pkg-config --exists ompi-c | libopenmpi-dev
check | command -v mpirun | openmpi-bin
memcheck | command -v valgrind | valgrind
analyze | command -v clang-tidy | clang-tidy
analyze | command -v cppcheck | cppcheck
arm64 | command -v aarch64-linux-gnu-gcc | gcc-aarch64-linux-gnu
arm64 | test -d /usr/aarch64-linux-gnu/include | libc6-dev-arm64-cross
arm64 | command -v qemu-aarch64 | qemu-user
arm64 | command -v dpkg-deb | dpkg
browser | command -v chromium || command -v google-chrome | chromium
peers | command -v python3 | python3
peers | python3 -m venv --help && python3 -c "import ensurepip" | python3-venv
peers | command -v c++ | g++
peers | certificates | ca-certificates
demo | command -v python3 | python3
demo | python3 -m pip --version || python3 -c "import ensurepip" | python3-venv
demo | certificates | ca-certificates
'

# Debian's clang package only recommends its runtime: some images leave it out.
clang_has_sanitizers() { echo 'int main(void){return 0;}' | clang -x c -fsanitize=address,fuzzer-no-link -o /dev/null -; }
certificates() { test -e /etc/ssl/certs/ca-certificates.crt || test ! -d /etc/apt; }

missing_of() {
    local line group probe package
    while read -r line; do
        # A probe may hold `||`: the group ends at the first ` | `, the package starts after the last.
        group=${line%% | *} package=${line##* | } probe=${line#* | } probe=${probe% | *}
        [[ -n "$line" && " $* " == *" $group "* ]] || continue
        eval "$probe" </dev/null >/dev/null 2>&1 || echo "$package"
    done <<<"$needs" | sort -u | tr '\n' ' '
}

missing=$(missing_of "$@")
[ -z "${missing// /}" ] && exit 0
# clang without its runtime libraries: the runtime has a package of its own, named after the version.
if [[ " $missing " == *" clang "* ]] && command -v clang >/dev/null; then
    version=$(clang -dumpversion | cut -d. -f1)
    missing="${missing/clang/libclang-rt-$version-dev} "
fi

line="apt-get install -y --no-install-recommends $missing"
[[ " $missing " == *" clang "* ]] && line="apt-get install -y $missing"
if ! command -v apt-get >/dev/null; then
    echo "missing: $missing(Debian's names); install them with this system's package manager and try again" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo=sudo
else
    echo "missing: $missing" >&2
    echo "type this as root, then try again:  apt-get update && $line" >&2
    exit 1
fi
echo "installing $missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $sudo apt-get update -q || true; $sudo env DEBIAN_FRONTEND=noninteractive $line; } </dev/null >"$log" 2>&1; then
    tail -5 "$log" >&2
    rm -f "$log"
    echo "installing failed; the line was:  $line" >&2
    exit 1
fi
rm -f "$log"
missing=$(missing_of "$@")
[ -z "${missing// /}" ] && exit 0
echo "still missing after installing: $missing" >&2
exit 1
