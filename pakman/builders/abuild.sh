# shellcheck shell=ash
# What is around abuild in the build root.
# sh -c "$(cat abuild.sh)" abuild TASK [WORD]...
set -e
umask 022
task=$1
shift

case $task in
set-up)
	# As root: the settings and the key lie where the build cannot put others in their place. The key is nobody's
	# secret: it is made for this one build, no machine trusts it, and abuild packs nothing without one. So it is short,
	# which is quicker to make.
	user=$1
	work=$2
	mkdir "$ABUILD_USERDIR"
	cd "$ABUILD_USERDIR"
	openssl genrsa -out pakman.rsa 1024 2>/dev/null
	: >pakman.rsa.pub
	chown "$user:" pakman.rsa
	chmod 400 pakman.rsa
	cat >abuild.conf <<-EOF
		PACKAGER_PRIVKEY=$ABUILD_USERDIR/pakman.rsa
		srcdir=$work/src
		pkgbasedir=$work/pkg
		tmpdir=$work/tmp
		USE_COLORS=
		USE_CCACHE=
		CLEANUP=
		ERROR_CLEANUP=
	EOF
	;;
build)
	# fakeroot closes every descriptor that there may be, each time it starts a program.
	ulimit -S -n 1024 2>/dev/null || :
	# All that it does by itself, but for what is done out here: what it needs is there, its packages get their index with
	# the key that machines trust.
	exec abuild -d -m validate clean fetch unpack prepare mkusers build rootpkg
	;;
esac
