# shellcheck shell=ash
# What the embedded builder does inside the build root, with the APKBUILD read as abuild reads it.
# sh -c "$(cat embedded.sh)" embedded TASK [WORD]... in the aport's directory
set -e
umask 022
task=$1
shift
startdir=$PWD
srcdir=${startdir%/*}/work/src
pkgbasedir=${startdir%/*}/pkg
# shellcheck source=/dev/null
. ./APKBUILD
: "${builddir:=$srcdir/${pkgname:?}-${pkgver:?}}"
# The APKBUILD's functions use it.
# shellcheck disable=SC2034
pkgdir=$pkgbasedir/$pkgname

# has DATABASE NAME: says whether a user or group is there; a dot in its name is a dot.
has() {
	cut -d : -f 1 "/etc/$1" | grep -qxF -e "$2"
}

# Stands in for chown where package() is not run by root: pakman does what this says.
say_chown() {
	if [ "$# $1 $2" != "4 -R -h" ]; then
		printf 'chown %s: only root can do that\n' "$*" >&2
		return 1
	fi
	printf 'chown %s\n' "$*"
}

case $task in
variables)
	# A NUL before, between and after: what the APKBUILD itself may print comes before the first.
	printf '\0'
	for name; do
		eval "value=\${$name-}"
		# shellcheck disable=SC2154
		printf '%s=%s\0' "$name" "$value"
	done
	for name in build package check prepare fetch unpack; do
		case $(type "$name" 2>/dev/null) in *function*) printf 'function=%s\0' "$name" ;; esac
	done
	;;
unpack)
	for file; do
		ln -s "$startdir/$file" "$srcdir/$file"
		case $file in
		*.tar | *.tar.gz | *.tgz | *.tar.bz2 | *.tar.xz) tar -C "$srcdir" -xf "$file" ;;
		*.zip) unzip -n -q "$file" -d "$srcdir" ;;
		esac
	done
	;;
make-users)
	for name in ${pkggroups-}; do
		has group "$name" || addgroup -S "$name"
	done
	for name in ${pkgusers-}; do
		has passwd "$name" && continue
		if has group "$name"; then
			adduser -S -D -H -G "$name" "$name"
		else
			adduser -S -D -H "$name"
		fi
	done
	;;
build | package)
	if [ "$task" = package ]; then
		mkdir "$pkgdir"
		[ "$(id -u)" = 0 ] || chown() { say_chown "$@"; }
	fi
	if [ -d "$builddir" ]; then cd "$builddir"; fi
	"$task"
	;;
split-openrc)
	openrcdir=$pkgbasedir/$pkgname-openrc
	mkdir "$openrcdir"
	cd "$pkgdir"
	for path in etc/conf.d etc/init.d etc/user/conf.d etc/user/init.d; do
		if [ -e "$path" ] || [ -L "$path" ]; then
			mkdir -p "$openrcdir/${path%/*}"
			mv "$path" "$openrcdir/$path"
			rmdir -p "${path%/*}" 2>/dev/null || :
		fi
	done
	;;
strip)
	command -v strip >/dev/null || exit 77
	cd "$pkgbasedir"
	# A new name: the build may have left something of any other there.
	stripped=$(mktemp)
	for file; do
		# Only the content is replaced: owner, mode, links and attributes stay.
		strip -o "$stripped" "$file"
		if [ -w "$file" ]; then
			cat "$stripped" >"$file"
		else
			mode=$(stat -c %a "$file")
			chmod u+w "$file"
			cat "$stripped" >"$file"
			chmod "$mode" "$file"
		fi
	done
	rm "$stripped"
	;;
tidy)
	# Directories that only other packages fill, and what libtool leaves for linking.
	cd "$pkgbasedir"
	case " ${options-} " in *" libtool "*) ;; *) find . -name '*.la' -type f -delete ;; esac
	case " ${options-} " in *" keepdirs "*) ;; *)
		cd "$pkgdir"
		for path in usr/lib usr/bin usr/share usr etc lib; do
			rmdir "$path" 2>/dev/null || :
		done
		;;
	esac
	;;
esac
