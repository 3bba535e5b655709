#!/usr/bin/env bash
# The part of clean_root.sh that runs with the network cut off; that script calls it, with root and version set.
set -euo pipefail
shopt -s inherit_errexit
: "${root:?clean_root.sh sets it}" "${version:?}"

fail() {
    printf 'clean_root.sh: %s\n' "$*" >&2
    exit 1
}
step() { printf '\n== %s\n' "$*"; }

# inside COMMAND...: as a visitor without rights, in a folder of its own, as one who has just logged in.
inside() { chroot --userspec=65534:65534 "$root" /usr/bin/env -i HOME=/visitor PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"; }
# Every path but those of the kernel and the visitor, logs, dpkg's own copies of its tables, and the index of manuals, which man-db fills
# after any package. ONNX Runtime itself writes a small note, .ses, into the folder of temporary files when it is used.
paths() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./sys -o -path ./visitor -o -path ./var/cache/man -o -path ./var/log \) -prune -o -print) |
        grep -vE '^\./(var/lib/dpkg/(.*-old|lock|lock-frontend|triggers/Lock)|tmp/\.ses)$' | LC_ALL=C sort
}

links=$(sed -n 's/^ *\([^:|]*\):.*/\1/p' /proc/self/net/dev)
[ "$links" = lo ] || [ -z "$links" ] || fail "the network is not cut off: there is $links"
mount -t proc proc "$root/proc"
if [ -n "${cpuinfo:-}" ]; then mount --bind "$cpuinfo" "$root/proc/cpuinfo"; fi
mount --bind /dev "$root/dev"
# How many processors there are is told there.
mount -t sysfs -o ro sysfs "$root/sys"
paths >"$root.before"

step "install"
chroot "$root" dpkg --install /kiln.deb
chroot "$root" dpkg --verify kiln

step "use"
inside kiln --version | tee "$root.said"
grep -q "^kiln ${version%-*}\$" "$root.said" || fail "kiln --version does not say ${version%-*}"
grep -q "^onnxruntime 1\..*(/usr/.*lib/kiln/libonnxruntime.so)" "$root.said" || fail "the package's own ONNX Runtime is not the one found"
inside kiln doctor
count=0
for card in "$root"/usr/share/kiln/models/*/model_index.json; do
    model=$(basename "$(dirname "$card")")
    inside kiln verify "$model" --quiet
    count=$((count + 1))
done
[ "$count" -ge 9 ] || fail "$count models were found, expected 9 or more"
inside sh -c 'cd && kiln generate "a smiling sun" --output sun.png && kiln show sun.png' | tee "$root.said"
grep -q "a smiling sun" "$root.said" || fail "the picture does not say what made it"
[ "$(head -c 4 "$root/visitor/sun.png" | tail -c 3)" = PNG ] || fail "sun.png is no picture"

step "manual and completions"
inside man --pager=cat kiln-generate >"$root.said"
grep -q -- --strength "$root.said" || fail "man kiln-generate does not tell of --strength"
inside bash -c 'source /usr/share/bash-completion/completions/kiln && complete -p kiln' || fail "bash takes no completions"
for file in zsh/vendor-completions/_kiln fish/vendor_completions.d/kiln.fish; do
    [ -s "$root/usr/share/$file" ] || fail "/usr/share/$file is missing"
done

step "the service"
service=$root/usr/lib/systemd/system/kiln.service
[ -s "$service" ] || fail "/usr/lib/systemd/system/kiln.service is missing"
program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$service")
[ -x "$root$program" ] || fail "the service starts $program, which is not there"
[ -z "$(find "$root/etc/systemd" -name 'kiln*' 2>/dev/null)" ] || fail "installing switched the service on"
# As the service starts it: a state folder, a cache, nobody's account.
chroot --userspec=65534:65534 "$root" /usr/bin/env -i STATE_DIRECTORY=/visitor/state XDG_CACHE_HOME=/visitor/cache \
    "$program" serve >"$root.said" &
served=$!
for _ in $(seq 100); do
    if grep -q "^kiln serves on" "$root.said"; then break; fi
    sleep 0.2
done
grep -q "^kiln serves on" "$root.said" || fail "kiln serve did not start"
kill "$served"
wait "$served" || fail "kiln serve did not end as it was asked to"

step "remove"
chroot "$root" dpkg --purge kiln
paths >"$root.after"
diff "$root.before" "$root.after" || fail "the lines above stayed behind (>) or went (<)"
rm -f "$root.before" "$root.after" "$root.said"
