/* tally watch | report | version: counts the words of the files in inbox/, takes them away, and keeps the totals. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct totals {
	unsigned long files, words;
};

/* SIGTERM and SIGINT are blocked, so that a file is counted or not, and nothing between: they are looked for. */
static sigset_t end;

static bool must_stop(void)
{
	sigset_t pending;
	return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static bool complain(const char *what)
{
	fprintf(stderr, "tally: %s: %s\n", what, strerror(errno));
	return false;
}

/* Nothing is counted yet where there is no file. */
static bool read_totals(struct totals *totals)
{
	*totals = (struct totals){0};
	FILE *file = fopen("totals", "r");
	if (!file)
		return errno == ENOENT || complain("totals");
	bool is_read = fscanf(file, "files %lu words %lu", &totals->files, &totals->words) == 2;
	fclose(file);
	if (!is_read)
		fputs("tally: totals is not what this program writes\n", stderr);
	return is_read;
}

/* Beside the old ones and then in their place: at any moment there are whole totals. */
static bool write_totals(const struct totals *totals)
{
	FILE *file = fopen("totals.new", "w");
	if (!file)
		return complain("totals.new");
	fprintf(file, "files %lu words %lu\n", totals->files, totals->words);
	bool is_whole = !ferror(file) && fflush(file) == 0 && fsync(fileno(file)) == 0;
	is_whole = fclose(file) == 0 && is_whole;
	return (is_whole && rename("totals.new", "totals") == 0) || complain("totals");
}

static bool count_words(int inbox, const char *name, unsigned long *words)
{
	/* Neither through a link nor from a pipe, for which it would wait for ever. */
	int descriptor = openat(inbox, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;
	if (descriptor < 0)
		return complain(name);
	if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
		close(descriptor);
		return false;
	}
	FILE *file = fdopen(descriptor, "r");
	if (!file) {
		close(descriptor);
		return complain(name);
	}
	bool is_inside = false;
	*words = 0;
	for (int letter; (letter = getc_unlocked(file)) != EOF;) {
		bool is_letter = !isspace(letter);
		*words += is_letter && !is_inside;
		is_inside = is_letter;
	}
	bool is_read = !ferror(file);
	fclose(file);
	return is_read || complain(name);
}

/* Count what lies in the inbox. A name that begins with a dot is not finished yet: rename it when it is. */
static bool empty_inbox(void)
{
	DIR *inbox = opendir("inbox");
	if (!inbox)
		return complain("inbox");
	bool is_well = true;
	for (struct dirent *entry; is_well && !must_stop() && (entry = readdir(inbox));) {
		unsigned long words;
		struct totals totals;
		if (entry->d_name[0] == '.' || !count_words(dirfd(inbox), entry->d_name, &words))
			continue;
		is_well = read_totals(&totals);
		if (!is_well)
			break;
		totals.files++;
		totals.words += words;
		/* Gone first: what a power failure comes between is counted once or never, but not twice. */
		if (unlinkat(dirfd(inbox), entry->d_name, 0) != 0) {
			complain(entry->d_name);
			continue;
		}
		is_well = write_totals(&totals);
		if (is_well)
			printf("%s: %lu words\n", entry->d_name, words);
	}
	closedir(inbox);
	return is_well;
}

static int watch(void)
{
	const char *said = getenv("INTERVAL");
	char *rest;
	long seconds = strtol(said ? said : "10", &rest, 10);
	if (*rest || seconds < 1 || seconds > INT_MAX) {
		fprintf(stderr, "tally: INTERVAL is %s, which is no number of seconds\n", said);
		return 2;
	}
	if (mkdir("inbox", 0770) != 0 && errno != EEXIST)
		return !complain("inbox");
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0); /* each line is in the log as soon as it is written */
	printf("tally %s: looking into inbox every %ld s\n", VERSION, seconds);
	do {
		if (!empty_inbox())
			return 1;
	} while (sigtimedwait(&end, NULL, &(struct timespec){.tv_sec = seconds}) < 0);
	puts("stopped");
	return 0;
}

static int report(void)
{
	struct totals totals;
	if (!read_totals(&totals))
		return 1;
	return printf("%lu files, %lu words\n", totals.files, totals.words) < 0;
}

int main(int count, char **words)
{
	const char *command = count == 2 ? words[1] : "";
	if (strcmp(command, "watch") == 0)
		return watch();
	if (strcmp(command, "report") == 0)
		return report();
	if (strcmp(command, "version") == 0)
		return printf("tally %s\n", VERSION) < 0;
	fputs("usage: tally watch | report | version\n", stderr);
	return 2;
}
