#!/usr/bin/env bash
# Tests on Python 3.13 with the newest versions that pip finds, in a Debian trixie of its own.
#
#   tools/python313.sh [PYTEST ARGUMENT ...]
#
# Needs Linux, root, debootstrap and Debian's mirror; where one is missing, says so and ends with status 0. The system
# is made in a temporary folder, or in $JAXALIGN_TRIXIE, which stays. pip is set up there as it is here: by the same
# files and variables, which see the files and folders of this machine that they name.
set -euo pipefail

skip() {
  echo "skipped, Python 3.13 is not tested: $1"
  exit 0
}

[[ $(uname -s) == Linux ]] || skip "this is not Linux"
((EUID == 0)) || skip "it takes root"
command -v debootstrap > /dev/null || skip "it takes debootstrap"
unshare --mount true 2> /dev/null || skip "nothing may be mounted here"

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
system=${JAXALIGN_TRIXIE:-}
if [[ -z $system ]]; then
  system=$(mktemp -d)
  # What is mounted below is gone by then: it is seen by one process only.
  trap 'rm -rf --one-file-system "$system" "$system.log"' EXIT
fi

if [[ ! -x $system/usr/bin/python3 ]]; then
  # The mirror that apt uses here; without one, the one that debootstrap knows.
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip trixie "$system" ${mirror:+"$mirror"} \
    > "$system.log" 2>&1 || skip "debootstrap says '$(tail -n 1 "$system.log")'"
fi

rm -rf "$system/tree"
mkdir -p "$system/tree"
tar -C "$tree" --exclude='./.git' --exclude='./.venv*' --exclude='./.*_cache' --exclude=__pycache__ -cf - . | tar -xf - -C "$system/tree"

# What pip needs of this machine, each at the same place: certificates, its files, and what its settings name.
needed() {
  printf '%s\n' /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf
  python3 -m pip config debug | sed -n 's/^ *\(\/.*\), exists: True$/\1/p'
  { python3 -m pip config list && env | grep -E '^(PIP|SSL_CERT|REQUESTS_CA)_'; } |
    sed 's/\\n/ /g' | tr " ='" '\n' | sed 's|^file://\(/.*\)/[^/]*$|\1|' | grep '^/' # an index's files lie beside it
}

folders=()
while IFS= read -r place; do
  if [[ -f $place ]]; then
    mkdir -p "$system$(dirname "$place")"
    cp --remove-destination "$place" "$system$place"
  elif [[ -d $place ]]; then
    mkdir -p "$system$place"
    folders+=("$place")
  fi
done < <(needed | sort -u)

# Folders are lent, and only to be read.
export system
exec 3< <(printf '%s\n' "${folders[@]}")
unshare --mount bash -euo pipefail -s -- "$@" << 'END'
for place in /proc /sys /dev; do mount --rbind "$place" "$system$place"; done
while IFS= read -r -u 3 place; do
  [[ -z $place ]] && continue
  mount --bind "$place" "$system$place"
  mount -o remount,bind,ro "$system$place"
done
exec env -u PYTHONPATH -u VIRTUAL_ENV -u JAXALIGN_TRIXIE HOME="$HOME" TMPDIR=/tmp LANG=C.UTF-8 \
  PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$system" bash -euo pipefail -c '
    cd /tree
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -e ".[test]"
    .venv/bin/python --version
    .venv/bin/pip list --disable-pip-version-check | grep -iE "^(jax|jaxlib|flax|numpy|optax|pillow|scikit-learn) "
    exec .venv/bin/pytest "$@" < /dev/null' pytest "$@"
END
