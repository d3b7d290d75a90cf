/* guestbook serve | health | version: one program, which keeps what it knows in data/ below where it is started. */
#include "book.h"
#include "http.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 64, SECONDS_PER_REQUEST = 10 };

static const char PAGE[] =
#include "page.inc"
	;

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

static void wake(int signal)
{
	(void)signal; /* that ppoll() was interrupted is all that matters */
}

static int port(void)
{
	const char *said = getenv("PORT");
	char *rest;
	long number = strtol(said ? said : "8080", &rest, 10);
	if (*rest || number < 1 || number > 65535) {
		fprintf(stderr, "guestbook: PORT is %s, which is no port\n", said);
		exit(2);
	}
	return (int)number;
}

/* The page with what is between @ signs in it replaced. */
static void write_page(FILE *out)
{
	char *title = book_title();
	for (const char *rest = PAGE; *rest;) {
		if (strncmp(rest, "@TITLE@", 7) == 0) {
			write_escaped(out, title ? title : "");
			rest += 7;
		} else if (strncmp(rest, "@VERSION@", 9) == 0) {
			write_escaped(out, VERSION);
			rest += 9;
		} else if (strncmp(rest, "@ENTRIES@", 9) == 0) {
			book_write_items(out);
			rest += 9;
		} else {
			fputc(*rest++, out);
		}
	}
	free(title);
}

static void say(int connection, const struct request *request, int status, const char *text)
{
	http_respond(connection, request, status, NULL, "text/plain", text, strlen(text));
}

static void say_health(int connection, const struct request *request)
{
	bool is_well = book_is_well();
	say(connection, request, is_well ? 200 : 503, is_well ? "ok\n" : "data/book cannot be read\n");
}

static void sign(int connection, const struct request *request)
{
	char text[LONGEST_ENTRY + 1];
	http_form_field(request->body, "text", text, sizeof text);
	if (text[strspn(text, " \t\r\n")] == '\0')
		say(connection, request, 400, "An entry has a text.\n");
	else if (!book_add(text))
		say(connection, request, 503, "The entry could not be written.\n");
	else
		http_respond(connection, request, 303, "/", "text/plain", "", 0);
}

static void show(int connection, const struct request *request)
{
	char *page = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&page, &length);
	if (out)
		write_page(out);
	if (out && fclose(out) == 0)
		http_respond(connection, request, 200, NULL, "text/html", page, length);
	else
		say(connection, request, 503, "There is no memory for the page.\n");
	free(page);
}

static void answer(int connection)
{
	static struct request request;
	int wrong = http_read(connection, &request);
	bool is_get = strcmp(request.method, "GET") == 0 || strcmp(request.method, "HEAD") == 0;
	if (wrong < 0)
		close(connection);
	else if (wrong > 0)
		say(connection, &request, wrong, "That is no request for a guestbook.\n");
	else if (is_get && strcmp(request.path, "/health") == 0)
		say_health(connection, &request);
	else if (strcmp(request.path, "/") != 0)
		say(connection, &request, 404, "There is only one page, and it is /.\n");
	else if (is_get)
		show(connection, &request);
	else if (strcmp(request.method, "POST") == 0)
		sign(connection, &request);
	else
		say(connection, &request, 405, "Only GET, HEAD and POST are answered.\n");
}

/* Each connection has a process of its own: one that says nothing, or makes us fail, is nobody else's matter. */
static bool answer_in_a_process(int connection, int listener, int lock)
{
	pid_t child = fork();
	if (child == 0) {
		close(listener);
		close(lock);
		/* A stop lets it finish; a client that goes on for ever does not hold that up. */
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		alarm(SECONDS_PER_REQUEST);
		answer(connection);
		_exit(0);
	}
	if (child < 0)
		fprintf(stderr, "guestbook: fork: %s\n", strerror(errno));
	close(connection);
	return child > 0;
}

static int serve(void)
{
	int lock = book_open();
	if (lock < 0)
		return 1;
	/* Signals come only while ppoll() waits, so that none comes between looking for it and waiting. */
	sigset_t ours, all_but_ours;
	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ours, &all_but_ours);
	sigdelset(&all_but_ours, SIGTERM);
	sigdelset(&all_but_ours, SIGINT);
	sigdelset(&all_but_ours, SIGCHLD);
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
	sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
	sigaction(SIGCHLD, &(struct sigaction){.sa_handler = wake}, NULL);

	int listener = http_listen(port());
	if (listener < 0) {
		fprintf(stderr, "guestbook: port %d: %s\n", port(), strerror(errno));
		return 1;
	}
	fprintf(stderr, "guestbook %s: listening on port %d\n", VERSION, port());
	int connections = 0;
	while (!stopping) {
		/* With as many at work as there may be, it waits for one of them to end. */
		struct pollfd next = {.fd = connections < MOST_CONNECTIONS ? listener : -1, .events = POLLIN};
		int ready = ppoll(&next, 1, NULL, &all_but_ours);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			connections--;
		if (ready <= 0 || stopping)
			continue;
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection >= 0 && answer_in_a_process(connection, listener, lock))
			connections++;
	}
	close(listener); /* nobody new; who is there is answered */
	if (connections)
		fprintf(stderr, "guestbook: stopping, %d to be answered\n", connections);
	while (wait(NULL) > 0)
		;
	fputs("guestbook: stopped\n", stderr);
	return 0;
}

static int health(void)
{
	int status = http_ask(port(), "/health");
	if (status == 200) {
		puts("ok");
		return 0;
	}
	if (status < 0)
		fprintf(stderr, "guestbook: nobody answers on port %d\n", port());
	else
		fprintf(stderr, "guestbook: /health answers %d\n", status);
	return 1;
}

int main(int count, char **words)
{
	const char *command = count == 2 ? words[1] : "";
	if (strcmp(command, "serve") == 0)
		return serve();
	if (strcmp(command, "health") == 0)
		return health();
	if (strcmp(command, "version") == 0)
		return printf("guestbook %s, data schema %d\n", VERSION, SCHEMA) < 0;
	fputs("usage: guestbook serve | health | version\n", stderr);
	return 2;
}
