#!/bin/sh
# Installs a package on an Alpine machine, and upgrades it where it is installed already. What it adds to /etc/apk (public
# keys whose digests it knows, a line of the repositories, the package's name) is gone again where anything fails.

keys=/etc/apk/keys
repositories=/etc/apk/repositories

say() {
	printf 'install.sh: %s\n' "$1" >&2
}

fail() {
	say "$1"
	exit 1
}

# Where wget fails, $answer is what the server said, if it said anything, and $problem a clause about it.
fetch() {
	wget -q -S -T 30 "$@" 2>"$scratch/said" </dev/null && return
	problem="wget ends with exit status $?"
	answer=$(sed -n 's/^ *HTTP\/[0-9.]* *//p' "$scratch/said" | tail -n 1)
	if [ -n "$answer" ]; then
		problem="the server answers $answer"
	elif grep -q '^wget: ' "$scratch/said"; then
		problem=$(sed -n 's/^wget: //p' "$scratch/said" | tail -n 1)
	fi
	return 1
}

# fetch_key NAME ADDRESS SHA256
fetch_key() {
	fetch -O "$scratch/$1" "$2" || fail "the public key $2 could not be fetched: $problem"
	digest=$(sha256sum <"$scratch/$1")
	digest=${digest%% *}
	[ "$digest" = "$3" ] || fail "the public key $2 is not the one that is meant: its SHA-256 is $digest, not $3"
	if [ -e "$keys/$1" ] && ! cmp -s "$scratch/$1" "$keys/$1"; then
		fail "$keys/$1 is another key already: what it trusts would be trusted no more. If that is meant, remove it first"
	fi
	fetched_keys="$fetched_keys $1"
}

# apk passes over a name with a dot at its beginning: it never sees half a key.
add_key() {
	[ ! -e "$keys/$1" ] || return 0
	added_keys="$added_keys $1"
	cp "$scratch/$1" "$keys/.$1" && chmod 644 "$keys/.$1" && mv "$keys/.$1" "$keys/$1"
}

# Whether the repository is there; and its tag, where it is there with one only: untagged, apk would pass over it.
is_listed() {
	[ -e "$repositories" ] || return
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		"$repository" | "$repository/")
			tag=''
			return
			;;
		@*[[:blank:]]"$repository" | @*[[:blank:]]"$repository/") tag=${line%%[[:blank:]]*} ;;
		esac
	done <"$repositories"
	[ -n "$tag" ]
}

add_line() {
	if [ ! -e "$repositories" ]; then
		had_none=yes
		: >"$repositories" && chmod 644 "$repositories" || return
	fi
	cp "$repositories" "$scratch/before" && cp "$scratch/before" "$scratch/after" || return
	# Its last line may be without an end.
	[ -z "$(tail -c 1 "$scratch/after")" ] || echo >>"$scratch/after" || return
	printf '%s\n' "$repository" >>"$scratch/after" || return
	added_line=yes
	rewrite "$scratch/after"
}

remove_line() {
	! cmp -s "$scratch/before" "$repositories" || return 0
	if ! cmp -s "$scratch/after" "$repositories"; then
		# Somebody else has written to it, too: that stays.
		grep -vxF -e "$repository" "$repositories" >"$scratch/before" || [ $? -eq 1 ] || return
	fi
	rewrite "$scratch/before"
}

# Gives the repositories the content of a file: all of it, or none.
rewrite() {
	file=$(readlink -f "$repositories")
	new=$file.install.sh
	cp -p "$file" "$new" && cat "$1" >"$new" || return
	# Where the file is mounted from elsewhere, as in a container, no other takes its place.
	mv "$new" "$file" 2>/dev/null || cat "$1" >"$file"
}

# Sets $wish to what the machine's user wants of the package already: maybe a version, or one from a tagged repository.
read_wish() {
	wish=''
	tr -s '[:blank:]' '\n' </etc/apk/world >"$scratch/world"
	while IFS= read -r word || [ -n "$word" ]; do
		case $word in
		"$package" | "$package"[@=\<\>~]*) wish=$word ;;
		esac
	done <"$scratch/world"
}

leave() {
	trap '' HUP INT TERM
	if [ -n "$added_line" ]; then
		remove_line || say "the line $repository could not be taken out of $repositories again: remove it"
	fi
	[ -z "$had_none" ] || [ -s "$repositories" ] || rm -f "$repositories"
	if [ -n "$asked" ]; then
		# A name that stays in the world and is in no repository keeps apk from installing anything at all.
		read_wish
		[ -z "$wish" ] || apk del --no-network "$package" 9<&- || say "$package could not be removed: 'apk del $package'"
	fi
	for name in $added_keys; do
		rm -f "$keys/.$name" "$keys/$name"
	done
	rm -rf "$new" "$scratch"
}

main() {
	package=shop
	repository=https://bucket.example/shop/channels/stable
	scratch='' new='' fetched_keys='' added_keys='' added_line='' had_none='' tag='' asked=''
	if [ ! -f /etc/alpine-release ] || ! command -v apk >/dev/null; then
		fail "$package is a package for Alpine Linux, which this machine does not run"
	fi
	[ "$(id -u)" -eq 0 ] || fail "only root can install $package: run this as root, for instance with 'doas sh' for 'sh'"
	# A package with a dot in its name is a file to apk, where there is one.
	cd / || exit

	trap leave EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	scratch=$(mktemp -d) || fail "no temporary directory could be made"
	# One at a time; whoever is killed lets go of it.
	exec 9</etc/apk
	flock -n 9 || {
		say "waiting for another install.sh"
		flock 9
	}

	fetch_key acme-shop.rsa.pub https://bucket.example/shop/keys/acme-shop.rsa.pub 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
	fetch_key acme-shop-2.rsa.pub https://bucket.example/shop/keys/acme-shop-2.rsa.pub fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210
	arch=$(head -n 1 /etc/apk/arch 2>/dev/null)
	[ -n "$arch" ] || arch=$(apk --print-arch)
	if ! fetch --spider "$repository/$arch/APKINDEX.tar.gz"; then
		case $answer in
		# S3 answers 403 for what is not there, where not everybody may list.
		403* | 404*) fail "$repository has nothing for this machine's architecture, $arch: $problem" ;;
		*) fail "$repository could not be read: $problem" ;;
		esac
	fi

	for name in $fetched_keys; do
		add_key "$name" || fail "the key $keys/$name could not be written"
	done
	# By itself: apk would pass over an index that it cannot trust, and be content with what is installed.
	printf '%s\n' "$repository" >"$scratch/repository"
	apk update --repositories-file "$scratch/repository" >/dev/null 9<&- || {
		status=$?
		say "apk cannot use $repository"
		exit "$status"
	}
	is_listed || add_line || fail "the repository could not be added to $repositories"
	read_wish
	[ -n "$wish" ] || asked=yes
	# From here on it is apk's end that counts: what it had done when a signal came stays done.
	trap : HUP INT TERM
	apk add --update-cache --upgrade "${wish:-$package$tag}" 9<&- || {
		status=$?
		[ -n "$asked" ] || say "once that is mended, run this again; or 'apk fix $package', where a script of the package failed"
		exit "$status"
	}
	added_keys='' added_line='' asked=''
}

main
