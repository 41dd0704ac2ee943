/* The least that libmicrohttpd can do, as a yardstick for the benchmark: external epoll, one
 * thread, the same bytes for every request.
 *
 *   bare_responder PORT BODY_LENGTH fixed|fresh
 *
 * `fixed` queues one response made at the start, `fresh` makes one for each request as a service
 * with answers of its own must. Runs until SIGTERM. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct responder {
    struct MHD_Response *fixed; /* NULL: one for each request */
    char *body;
    size_t length;
};

static struct MHD_Response *make_response(const struct responder *responder)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(responder->length, responder->body, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        abort();
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    return response;
}

/* libmicrohttpd calls this first with the headers, then with the end of the (empty) body. */
static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    (void)url, (void)method, (void)version, (void)upload;
    const struct responder *responder = context;
    if (*state == NULL) {
        *state = context;
        return MHD_YES;
    }
    *upload_size = 0;
    if (responder->fixed != NULL)
        return MHD_queue_response(connection, MHD_HTTP_OK, responder->fixed);
    struct MHD_Response *response = make_response(responder);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static struct MHD_Daemon *start(uint16_t port, struct responder *responder)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return MHD_start_daemon(MHD_USE_EPOLL, port, NULL, NULL, answer, responder,
                            MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
                            MHD_OPTION_CONNECTION_LIMIT, 10000u, MHD_OPTION_END);
}

static void serve(struct MHD_Daemon *daemon)
{
    int epoll = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int outer = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (outer < 0 || epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &event) != 0)
        abort();
    for (;;) {
        MHD_UNSIGNED_LONG_LONG milliseconds;
        int wait = MHD_get_timeout(daemon, &milliseconds) == MHD_YES ? (int)milliseconds : -1;
        if (epoll_wait(outer, &event, 1, wait) < 0 && errno != EINTR)
            abort();
        MHD_run(daemon);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT BODY_LENGTH fixed|fresh\n", argv[0]);
        return 2;
    }
    struct responder responder = {.length = strtoul(argv[2], NULL, 10)};
    responder.body = malloc(responder.length + 1);
    if (responder.body == NULL)
        abort();
    memset(responder.body, 'x', responder.length);
    if (strcmp(argv[3], "fixed") == 0)
        responder.fixed = make_response(&responder);
    struct MHD_Daemon *daemon = start((uint16_t)strtoul(argv[1], NULL, 10), &responder);
    if (daemon == NULL) {
        fprintf(stderr, "cannot listen on port %s\n", argv[1]);
        return 1;
    }
    serve(daemon);
}
