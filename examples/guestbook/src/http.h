/* As much of HTTP/1.1 as a guestbook needs: one request on a connection, one response, and the connection is closed. */
#ifndef HTTP_H
#define HTTP_H

#include <stddef.h>

enum { LONGEST_REQUEST = 16384 };

struct request {
	char method[8];
	char path[256];
	char *body;               /* ends with a NUL; in `bytes` */
	char bytes[LONGEST_REQUEST + 1];
};

/* Listen on a port of all addresses; -1, with errno, where that fails. */
int http_listen(int port);

/* Read a request. Returns 0, or the status of the response that says what is wrong with it; -1: there is nobody any more. */
int http_read(int connection, struct request *request);

/* Send a whole response; `location` may be NULL. */
void http_respond(int connection, const struct request *request, int status, const char *location, const char *type,
		  const char *body, size_t length);

/* Take the value of a field out of a form (application/x-www-form-urlencoded) into `value`, as much as fits in. */
void http_form_field(const char *form, const char *name, char *value, size_t size);

/* Ask this machine's own port for a path; return the status, -1 where nobody answers. */
int http_ask(int port, const char *path);

#endif
