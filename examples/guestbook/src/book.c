#include "book.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char BOOK[] = "data/book";
static const char NEW[] = "data/book.new";
static const char LOCK[] = "data/lock";
static const char SETTINGS[] = "data/settings";

static int failed(const char *what)
{
	fprintf(stderr, "guestbook: %s: %s\n", what, strerror(errno));
	return -1;
}

/* Close a file that was written; say whether all of it is on the disk. */
static bool finish(FILE *file)
{
	bool is_whole = !ferror(file) && fflush(file) == 0 && fsync(fileno(file)) == 0;
	return fclose(file) == 0 && is_whole;
}

/* Read the first line; 0 where it is none of a book's. */
static int read_schema(FILE *book)
{
	int schema;
	return fscanf(book, "guestbook %d", &schema) == 1 && fgetc(book) == '\n' ? schema : 0;
}

/* From schema 1, where a line was an entry's text, to schema 2, where seconds since 1970 come first. */
static void add_times(const char *line, FILE *to)
{
	fprintf(to, "0 %s", line); /* nobody knows any more */
}

/* What becomes of each line on the way from one schema to the next. */
static void (*const MIGRATIONS[])(const char *line, FILE *to) = {[1] = add_times};

/* Write the next schema's book beside this one and put it in its place: at any moment there is a whole one. */
static int migrate(FILE *book, int schema)
{
	char kept[sizeof BOOK + 32];
	snprintf(kept, sizeof kept, "%s.schema-%d", BOOK, schema);
	FILE *new = fopen(NEW, "w");
	if (!new)
		return failed(NEW);
	fprintf(new, "guestbook %d\n", schema + 1);
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, book) > 0)
		MIGRATIONS[schema](line, new);
	free(line);
	if (!finish(new))
		return failed(NEW);
	/* The old book stays beside the new one, for whoever has to go back. */
	unlink(kept);
	if (link(BOOK, kept) != 0 || rename(NEW, BOOK) != 0)
		return failed(BOOK);
	fprintf(stderr, "guestbook: migrated %s from schema %d to %d; the old one is %s\n", BOOK, schema, schema + 1, kept);
	return 0;
}

/* Write a file with its first line, where there is none. */
static int create(const char *path, const char *line)
{
	if (access(path, F_OK) == 0)
		return 0;
	FILE *file = fopen(path, "wx");
	if (!file)
		return failed(path);
	fputs(line, file);
	return finish(file) ? 0 : failed(path);
}

int book_open(void)
{
	if (mkdir("data", 0750) != 0 && errno != EEXIST)
		return failed("data");
	int lock = open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (lock < 0)
		return failed(LOCK);
	if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
		fputs("guestbook: another one is at work here\n", stderr);
		return -1;
	}
	char first[32];
	snprintf(first, sizeof first, "guestbook %d\n", SCHEMA);
	if (create(SETTINGS, "title=Guestbook\n") != 0 || create(BOOK, first) != 0)
		return -1;
	for (int schema = 0; schema != SCHEMA;) {
		FILE *book = fopen(BOOK, "r");
		if (!book)
			return failed(BOOK);
		schema = read_schema(book);
		if (schema < 1 || schema > SCHEMA) {
			fprintf(stderr, "guestbook: %s has schema %d, and this program knows those up to %d\n", BOOK, schema, SCHEMA);
			schema = -1;
		} else if (schema < SCHEMA && migrate(book, schema) != 0) {
			schema = -1;
		}
		fclose(book);
		if (schema < 0)
			return -1;
	}
	return lock;
}

bool book_is_well(void)
{
	FILE *book = fopen(BOOK, "r");
	if (!book)
		return false;
	int schema = read_schema(book);
	fclose(book);
	return schema == SCHEMA;
}

bool book_add(const char *text)
{
	char line[LONGEST_ENTRY + 32];
	int length = snprintf(line, sizeof line, "%lld %s\n", (long long)time(NULL), text);
	if (length < 0 || (size_t)length >= sizeof line)
		return false;
	for (int i = 0; i < length - 1; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 127)
			line[i] = ' ';
	int book = open(BOOK, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (book < 0)
		return false;
	/* One at a time: where a line does not fit on the disk, what was written of it is taken back. */
	struct stat before;
	bool is_added = flock(book, LOCK_EX) == 0 && fstat(book, &before) == 0;
	if (is_added && (write(book, line, (size_t)length) != length || fsync(book) != 0)) {
		is_added = false;
		if (ftruncate(book, before.st_size) != 0)
			failed(BOOK);
	}
	close(book);
	return is_added;
}

void book_write_items(FILE *out)
{
	FILE *book = fopen(BOOK, "r");
	if (!book)
		return;
	char *line = NULL, *text, when[32];
	size_t size = 0;
	read_schema(book);
	while (getline(&line, &size, book) > 0) {
		line[strcspn(line, "\n")] = '\0';
		time_t seconds = (time_t)strtoll(line, &text, 10);
		struct tm day;
		fputs("<li>", out);
		if (seconds > 0 && gmtime_r(&seconds, &day) && strftime(when, sizeof when, "%F", &day))
			fprintf(out, "<time>%s</time> ", when);
		write_escaped(out, *text == ' ' ? text + 1 : text);
		fputs("\n", out);
	}
	free(line);
	fclose(book);
}

char *book_title(void)
{
	char *line = NULL, *title = NULL;
	size_t size = 0;
	FILE *settings = fopen(SETTINGS, "r");
	while (settings && !title && getline(&line, &size, settings) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "title=", 6) == 0)
			title = strdup(line + 6);
	}
	free(line);
	if (settings)
		fclose(settings);
	return title ? title : strdup("Guestbook");
}

void write_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&': fputs("&amp;", out); break;
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '"': fputs("&quot;", out); break;
		case '\'': fputs("&#39;", out); break;
		default: fputc(*text, out);
		}
	}
}
