#!/bin/bash
# Installs the Debian packages that a group of targets needs and that are missing; through sudo when
# not root. With nothing missing it does nothing, offline too.
#
#   tests/support/deps.sh [build] [browser] [sandbox] [lint] [bench] [clients]
set -euo pipefail

declare -A packages=(
    [build]="gcc libc6-dev make pkg-config libmicrohttpd-dev libgnutls28-dev libhiredis-dev libuv1-dev libjansson-dev
             libsodium-dev libssl-dev libsystemd-dev libinih-dev libcurl4-openssl-dev libmaxminddb-dev check redis-server redis-tools curl jq
             python3 python3-cryptography python3-jsonschema python3-jwt python3-pytest python3-yaml
             procps"
    [browser]="chromium chromium-driver"
    [sandbox]="systemd python3-seccomp"
    [lint]="clang-format clang-tidy cppcheck shellcheck universal-ctags python3 python3-yaml git"
    [clients]="nginx-light libnginx-mod-http-js haproxy caddy apache2 libapache2-mod-oauth2
               libapache2-mod-auth-openidc dovecot-core golang-go golang-golang-x-oauth2-dev nodejs npm
               openssl python3-authlib python3-cryptography python3-jwt python3-requests-oauthlib python3-yaml"
    [bench]="wrk nginx-light libnginx-mod-http-lua lua-resty-core webdis util-linux valgrind"
)

# Packages whose installation would start a service for the whole machine. Only their programs are
# wanted here, so a service that was not there before neither starts now nor at the next boot.
readonly services="redis-server nginx webdis haproxy caddy apache2 dovecot-core"
readonly policy=/usr/sbin/policy-rc.d

# npm comes with Node itself where that is not Debian's.
installed()
{
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]] ||
        { [[ $1 == npm ]] && command -v npm >/dev/null; }
}

privileged()
{
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_missing()
{
    local service new_services=() own_policy=''
    for service in $services; do
        if ! installed "$service"; then new_services+=("$service"); fi
    done
    # invoke-rc.d asks this program whether a package may start its service; 101 is "no".
    if [[ ! -e $policy ]]; then
        own_policy=yes
        trap 'privileged rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | privileged tee "$policy" >/dev/null
        privileged chmod 755 "$policy"
    fi
    privileged apt-get update -q
    privileged env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    if [[ -n $own_policy ]]; then
        privileged rm -f "$policy"
        trap - EXIT
    fi
    if [[ -d /run/systemd/system ]]; then
        for service in "${new_services[@]}"; do
            if installed "$service"; then privileged systemctl disable --now --quiet "${service%-core}"; fi
        done
    fi
}

missing=()
for group in "${@:-build}"; do
    [[ -v packages[$group] ]] || { echo "deps.sh: unknown group $group" >&2 && exit 2; }
    for package in ${packages[$group]}; do
        if ! installed "$package"; then missing+=("$package"); fi
    done
done
if ((${#missing[@]} == 0)); then exit 0; fi

echo "Missing packages: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "deps.sh: this is not Debian; install what corresponds to these packages" >&2
    exit 1
fi
if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    echo "deps.sh: neither root nor sudo; run as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
install_missing "${missing[@]}"
