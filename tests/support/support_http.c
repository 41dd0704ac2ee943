/* worker.c is included, so that what its thread does can be done here step by step. */
#include "support_http.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "alerts.h"
#include "http/access/throttle.h"
#include "http/exchange/router.h"
#include "log.h"
#include "session/engine/service.h"

static int start_no_thread(pthread_t *thread, const pthread_attr_t *attributes,
                           void *(*entry)(void *), void *argument)
{
    (void)thread, (void)attributes, (void)entry, (void)argument;
    return 0;
}

#define pthread_create start_no_thread
#include "http/server/worker.c"
#undef pthread_create

struct http_worker_rig served;

/* The ops plane's questions to the store, whose place support_session.c takes. */
struct store_health http_health;
struct store_node_health http_nodes[2];

void store_health(const struct store *store, struct store_health *ret)
{
    (void)store;
    *ret = http_health;
}

size_t store_nodes(const struct store *store, struct store_node_health *ret, size_t size)
{
    (void)store;
    size_t count = size < 2 ? size : 2;
    memcpy(ret, http_nodes, count * sizeof(*ret));
    return count;
}

static void name_file(char path[96])
{
    snprintf(path, 96, "%s/audit", rig.directory);
}

static struct audit *start_audit(void)
{
    struct buffer error = {0};
    char path[96];
    name_file(path);
    free(rig.conf->audit_file);
    rig.conf->audit_file = xstrdup(path);
    struct audit *audit = audit_start(rig.conf, "node", &error);
    ck_assert_msg(audit != NULL, "%.*s", (int)error.length, error.data ? error.data : "");
    return audit;
}

void http_set_up(void)
{
    struct buffer error = {0};
    rig_set_up();
    http_prepare();
    router_prepare();
    served = (struct http_worker_rig){.up = true};
    http_health = (struct store_health){.map_known = true,
                                        .masters = 1,
                                        .slots_covered = SLOT_COUNT,
                                        .serving = true,
                                        .time_asked = true,
                                        .was_whole = true};
    served.node = rig_start(0);
    served.peer = rig_start(1);
    served.server.services = (struct http_services){
        .audit = start_audit(),
        .store = served.node->store,
        .cache = served.node->cache,
        .journal = served.node->journal,
        .sessions = served.node->service,
        .keyring = rig.keyring,
        .node_name = "node",
    };
    served.server.handlers = &http_handlers;
    served.server.limits = connection_limits_create();
    connection_limits_set(served.server.limits, 1000, 1000);
    served.server.throttle = throttle_create();
    ck_assert(worker_start(&served.worker, &served.server, PLANE_MAIN, 0, &error));
    served.worker.sessions = served.node->worker;
    served.worker.lane =
        audit_lane_create(served.server.services.audit, wake_from_audit, &served.worker);
    served.worker.config =
        request_config_create(conf_current(), keyring_ref(rig.keyring), served.node->worker);
}

void http_start_alerts(void)
{
    struct buffer error = {0};
    char path[96];
    snprintf(path, sizeof(path), "%s/alerts", rig.directory);
    free(rig.conf->alerts_file);
    rig.conf->alerts_file = xstrdup(path);
    struct http_services *services = &served.server.services;
    services->alerts = alerts_start(rig.conf, services->audit, "node", &error);
    ck_assert_msg(services->alerts != NULL, "%.*s", (int)error.length, error.data);
}

void http_serve_ops(void)
{
    http_start_alerts();
    served.worker.plane = PLANE_OPS;
    served.server.ops_worker = &served.worker;
}

void http_stop(void)
{
    if (!served.up)
        return;
    served.up = false;
    audit_lane_destroy(&served.worker.lane);
    rig_stop(served.node);
    rig_stop(served.peer);
    served.worker.sessions = NULL;
    close_services(&served.worker);
    alerts_stop(&served.server.services.alerts);
    audit_stop(&served.server.services.audit);
    connection_limits_destroy(&served.server.limits);
    throttle_destroy(&served.server.throttle);
}

void http_tear_down(void)
{
    http_stop();
    rig_tear_down();
}

int http_connect(void)
{
    int ends[2];
    const struct sockaddr_storage address = {.ss_family = AF_UNIX};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    worker_give(&served.worker, client_create(ends[0], false, &address, sizeof(address.ss_family)));
    http_run();
    return ends[1];
}

static void turn_worker(void)
{
    served.worker.daemon_due = true;
    uv_run(&served.worker.loop, UV_RUN_NOWAIT);
}

void http_run(void)
{
    for (int i = 0; i < 4; i++) {
        turn_worker();
        rig_run();
    }
    turn_worker();
}

void http_send(int client, const char *text)
{
    size_t length = strlen(text);
    ck_assert_int_eq(send(client, text, length, 0), (ssize_t)length);
    http_run();
}

void http_call(int client, const char *line, struct text token)
{
    char request[512];
    snprintf(request, sizeof(request),
             "%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %.*s\r\n\r\n", line,
             (int)token.length, token.data);
    http_send(client, request);
}

void http_pass(int64_t ms)
{
    for (; ms > 0; ms -= 10) {
        rig_pass(10);
        http_run();
    }
}

const char *http_received(int client)
{
    static char received[16384];
    ssize_t length = recv(client, received, sizeof(received) - 1, MSG_DONTWAIT);
    received[length > 0 ? length : 0] = '\0';
    return received;
}

/* Requests that a slow disk holds up are tried again by the clock of the test, which therefore goes
 * on a little when nothing comes from the threads. */
static void wait_for_threads(int *looks_left)
{
    enum { LOOK_MS = 200, STEP_MS = 10 };
    struct pollfd loops[] = {
        {uv_backend_fd(&served.worker.loop), POLLIN, 0},
        {uv_backend_fd(&served.node->loop), POLLIN, 0},
    };
    if (poll(loops, 2, LOOK_MS) > 0) {
        http_run();
        return;
    }
    ck_assert_msg((*looks_left)-- > 0, "nothing goes on");
    http_pass(STEP_MS);
}

enum { LOOKS = 150 };

const char *http_wait(int client)
{
    int looks_left = LOOKS;
    const char *received;
    http_run();
    while (*(received = http_received(client)) == '\0')
        wait_for_threads(&looks_left);
    return received;
}

void http_wait_for_none(enum request_state state)
{
    int looks_left = LOOKS;
    http_run();
    while (http_count(state) > 0)
        wait_for_threads(&looks_left);
}

unsigned http_count(enum request_state state)
{
    return served.worker.in_state[state];
}

unsigned http_lines(const char *part)
{
    char path[96], line[4096];
    unsigned count = 0;
    name_file(path);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, "\"http.request.id\"") != NULL && strstr(line, part) != NULL;
    fclose(file);
    return count;
}
