/* The data: a text file with its schema in the first line, and one entry on each line below. */
#ifndef BOOK_H
#define BOOK_H

#include <stdbool.h>
#include <stdio.h>

enum { SCHEMA = 2, LONGEST_ENTRY = 800 };

/* Make ready what is in data/: create it where there is nothing, bring an older book to SCHEMA, and keep others out
 * until this process ends. Returns the lock, to be closed in children; -1, and says why, where it cannot be served. */
int book_open(void);

/* Say whether the book is there and has the schema that this program knows. */
bool book_is_well(void);

/* Write an entry, which is on the disk when this returns true. It may hold anything: what would end a line is a blank. */
bool book_add(const char *text);

/* Write all entries as items of an HTML list. */
void book_write_items(FILE *out);

/* The title from data/settings; to be freed. */
char *book_title(void);

/* Write text so that HTML takes it for nothing else. */
void write_escaped(FILE *out, const char *text);

#endif
