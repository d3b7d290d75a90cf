#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int http_listen(int port)
{
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1, no = 0;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_any};
	const struct sockaddr *address = (const struct sockaddr *)&any;
	socklen_t length = sizeof any;
	/* A machine without IPv6 has IPv4 all the same. */
	struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (listener < 0 && errno == EAFNOSUPPORT) {
		listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		address = (const struct sockaddr *)&any4;
		length = sizeof any4;
	}
	if (listener < 0)
		return -1;
	if (address->sa_family == AF_INET6)
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
	/* A restart need not wait for connections of the process before. */
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, address, length) != 0 || listen(listener, SOMAXCONN) != 0) {
		close(listener);
		return -1;
	}
	return listener;
}

/* Find the end of the header: where the body begins, or 0. */
static size_t end_of_header(const char *bytes, size_t length)
{
	const char *found = memmem(bytes, length, "\r\n\r\n", 4);
	return found ? (size_t)(found - bytes) + 4 : 0;
}

/* Find a field of the header; NULL where there is none. `header` ends with a NUL and has no request line. */
static const char *field(const char *header, const char *name)
{
	size_t length = strlen(name);
	for (const char *line = header; line; line = strstr(line, "\r\n")) {
		line += strspn(line, "\r\n");
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " \t");
		if (*line == '\0')
			break;
	}
	return NULL;
}

int http_read(int connection, struct request *request)
{
	size_t length = 0, header = 0, body = 0;
	request->method[0] = request->path[0] = '\0';
	while (!header || length < header + body) {
		if (length == LONGEST_REQUEST)
			return header ? 413 : 431;
		ssize_t count = read(connection, request->bytes + length, LONGEST_REQUEST - length);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return -1;
		length += (size_t)count;
		if (header || !(header = end_of_header(request->bytes, length)))
			continue;
		/* The header is whole. A NUL in it would hide from us what it says. */
		if (memchr(request->bytes, '\0', header))
			return 400;
		request->bytes[header - 2] = '\0'; /* in the place of the empty line */
		const char *fields = strstr(request->bytes, "\r\n");
		int end = 0;
		if (sscanf(request->bytes, "%7[A-Z] %255[!-~] HTTP/1.%*1[01]%n", request->method, request->path, &end) != 2 ||
		    end == 0 || request->bytes[end] != '\r')
			return 400;
		if (field(fields, "Transfer-Encoding"))
			return 411; /* only a length is understood */
		const char *said = field(fields, "Content-Length");
		if (said) {
			char *rest;
			unsigned long long value = strtoull(said, &rest, 10);
			if (*said < '0' || *said > '9' || (*rest != '\r' && *rest != '\0'))
				return 400;
			if (value > LONGEST_REQUEST - header)
				return 413;
			body = (size_t)value;
		}
	}
	request->body = request->bytes + header;
	request->body[body] = '\0';
	return 0;
}

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 303: return "See Other";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 411: return "Length Required";
	case 413: return "Content Too Large";
	case 431: return "Request Header Fields Too Large";
	case 503: return "Service Unavailable";
	default: return "Bad Request";
	}
}

static bool send_all(int connection, const char *bytes, size_t length)
{
	while (length > 0) {
		/* MSG_NOSIGNAL: who does not wait for the answer is no reason to die. */
		ssize_t count = send(connection, bytes, length, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return false;
		bytes += count;
		length -= (size_t)count;
	}
	return true;
}

void http_respond(int connection, const struct request *request, int status, const char *location, const char *type,
		  const char *body, size_t length)
{
	char header[512];
	int size = snprintf(header, sizeof header,
			    "HTTP/1.1 %d %s\r\n"
			    "Content-Type: %s; charset=utf-8\r\n"
			    "Content-Length: %zu\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "%s%s%s"
			    "Connection: close\r\n\r\n",
			    status, reason(status), type, length, location ? "Location: " : "", location ? location : "",
			    location ? "\r\n" : "");
	bool is_sent = send_all(connection, header, (size_t)size);
	if (is_sent && strcmp(request->method, "HEAD") != 0)
		is_sent = send_all(connection, body, length);
	/* Closed with something unread, the connection would be reset, and the answer lost with it. */
	shutdown(connection, SHUT_WR);
	struct timeval second = {.tv_sec = 1};
	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	char rest[4096];
	while (is_sent && read(connection, rest, sizeof rest) > 0)
		;
	close(connection);
}

static int hexadecimal(char digit)
{
	const char digits[] = "0123456789abcdef";
	const char *found = digit ? strchr(digits, digit | 0x20) : NULL;
	return found ? (int)(found - digits) : -1;
}

void http_form_field(const char *form, const char *name, char *value, size_t size)
{
	size_t length = strlen(name), used = 0;
	while (form && (strncmp(form, name, length) != 0 || form[length] != '='))
		form = (form = strchr(form, '&')) ? form + 1 : NULL;
	for (const char *at = form ? form + length + 1 : ""; *at && *at != '&' && used + 1 < size; at++) {
		if (*at == '%' && hexadecimal(at[1]) >= 0 && hexadecimal(at[2]) >= 0) {
			char byte = (char)(hexadecimal(at[1]) * 16 + hexadecimal(at[2]));
			value[used++] = byte ? byte : ' ';
			at += 2;
		} else {
			value[used++] = *at == '+' ? ' ' : *at;
		}
	}
	value[used] = '\0';
}

int http_ask(int port, const char *path)
{
	int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = -1;
	struct sockaddr_in here = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 5};
	if (connection < 0)
		return -1;
	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	char bytes[512] = "";
	int length = snprintf(bytes, sizeof bytes, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	if (connect(connection, (const struct sockaddr *)&here, sizeof here) == 0 &&
	    send_all(connection, bytes, (size_t)length) && (length = (int)read(connection, bytes, sizeof bytes - 1)) > 0) {
		bytes[length] = '\0';
		if (sscanf(bytes, "HTTP/1.1 %d", &status) != 1)
			status = -1;
	}
	close(connection);
	return status;
}
