/* A client with a schedule, as a yardstick of latency for the benchmark: requests go out RATE times
 * a second whether or not answers come, and an answer's time counts from when its request was due.
 * So a server that stalls is charged for all who would have come meanwhile.
 *
 *   paced PORT|SOCKET RATE SECONDS CONNECTIONS TOKENS_FILE [PATH]
 *
 * GET PATH (/v1/validate) at a port of loopback or a Unix socket, with tokens drawn at random from
 * a file of lines of one length. Prints what
 * load.lua prints: "result REQUESTS DURATION_US P50_US P99_US ERRORS". */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST_LINES = 1024, ANSWER_MAX = 4096, TOKEN_MAX = 256, SLOWEST_US = 1000000 };

static const int64_t second_ns = 1000000000;

/* One connection; at most one request is in flight on it. */
struct line {
    int fd;
    bool waits;
    int64_t due_ns;
    size_t received;
    char answer[ANSWER_MAX + 1];
};

static struct {
    struct line lines[MOST_LINES];
    struct line *idle[MOST_LINES];
    size_t idle_count;
    int epoll;
    char *tokens; /* lines of token_length bytes and a newline each */
    size_t token_length, token_count;
    const char *path;
    uint64_t random;
    uint64_t histogram[SLOWEST_US + 1]; /* by µs; the last takes the rest */
    uint64_t answers, errors;
} load;

static void fail(const char *what)
{
    fprintf(stderr, "paced: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

static void read_tokens(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        fail(path);
    long size = ftell(file);
    rewind(file);
    load.tokens = malloc((size_t)size + 1);
    if (load.tokens == NULL || fread(load.tokens, 1, (size_t)size, file) != (size_t)size)
        fail(path);
    fclose(file);
    load.tokens[size] = '\0';
    load.token_length = strcspn(load.tokens, "\n");
    load.token_count = (size_t)size / (load.token_length + 1);
    if (load.token_count == 0 || load.token_length > TOKEN_MAX) {
        errno = EINVAL;
        fail(path);
    }
}

static int connect_tcp(uint16_t port)
{
    const int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0)
        fail("connect");
    return fd;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        fail("connect");
    return fd;
}

static void open_line(struct line *line, const char *server)
{
    line->fd =
        *server == '/' ? connect_unix(server) : connect_tcp((uint16_t)strtoul(server, NULL, 10));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = line};
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, line->fd, &event) != 0)
        fail("epoll_ctl");
    load.idle[load.idle_count++] = line;
}

/* xorshift: any spread will do, but it should cost nothing. */
static const char *draw_token(void)
{
    load.random ^= load.random << 13;
    load.random ^= load.random >> 7;
    load.random ^= load.random << 17;
    return load.tokens + load.random % load.token_count * (load.token_length + 1);
}

static void send_request(int64_t due_ns)
{
    struct line *line = load.idle[--load.idle_count];
    char request[TOKEN_MAX + 512];
    int length = snprintf(request, sizeof(request),
                          "GET %.255s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          "Authorization: Bearer %.*s\r\n\r\n",
                          load.path, (int)load.token_length, draw_token());
    line->due_ns = due_ns;
    line->waits = true;
    line->received = 0;
    if (send(line->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        fail("send");
}

/* True if the whole answer is there. */
static bool is_whole(const struct line *line)
{
    const char *end = strstr(line->answer, "\r\n\r\n");
    const char *length = strcasestr(line->answer, "\r\nContent-Length:");
    if (end == NULL || length == NULL || length > end)
        return false;
    size_t head = (size_t)(end - line->answer) + 4;
    return line->received >= head + strtoul(length + 17, NULL, 10);
}

static void note(const struct line *line)
{
    int64_t micros = (now_ns() - line->due_ns) / 1000;
    load.histogram[micros > SLOWEST_US ? SLOWEST_US : micros]++;
    load.answers++;
    if (strncmp(line->answer, "HTTP/1.1 200 ", 13) != 0)
        load.errors++;
}

static void receive(struct line *line)
{
    ssize_t got =
        recv(line->fd, line->answer + line->received, ANSWER_MAX - line->received, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || !line->waits) {
        errno = ECONNRESET;
        fail("recv");
    }
    line->received += (size_t)got;
    line->answer[line->received] = '\0';
    if (!is_whole(line))
        return;
    note(line);
    line->waits = false;
    load.idle[load.idle_count++] = line;
}

static void wait_until(int64_t when_ns)
{
    struct epoll_event events[64];
    int64_t rest_ns = when_ns - now_ns();
    struct timespec timeout = {0};
    if (rest_ns > 0)
        timeout = (struct timespec){rest_ns / second_ns, rest_ns % second_ns};
    int count = epoll_pwait2(load.epoll, events, 64, &timeout, NULL);
    for (int i = 0; i < count; i++)
        receive(events[i].data.ptr);
}

/* Sends `total` requests on time and waits for their answers, two seconds longer at most. */
static int64_t run(uint64_t total, uint64_t rate, double seconds)
{
    const int64_t start_ns = now_ns();
    const int64_t end_ns = start_ns + (int64_t)((seconds + 2) * (double)second_ns);
    uint64_t sent = 0;
    while (load.answers < total && now_ns() < end_ns) {
        int64_t due_ns = start_ns + (int64_t)(sent * (uint64_t)second_ns / rate);
        if (sent < total && load.idle_count > 0 && due_ns <= now_ns()) {
            send_request(due_ns);
            sent++;
        } else {
            wait_until(sent < total && load.idle_count > 0 ? due_ns : end_ns);
        }
    }
    load.errors += total - load.answers;
    return now_ns() - start_ns;
}

static unsigned percentile(unsigned percent)
{
    uint64_t rank = load.answers * percent / 100, seen = 0;
    unsigned micros = 0;
    while (micros < SLOWEST_US && (seen += load.histogram[micros]) <= rank)
        micros++;
    return micros;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: %s PORT|SOCKET RATE SECONDS CONNECTIONS TOKENS_FILE [PATH]\n",
                argv[0]);
        return 2;
    }
    uint64_t rate = strtoul(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    size_t connections = strtoul(argv[4], NULL, 10);
    if (rate == 0 || connections == 0 || connections > MOST_LINES) {
        fprintf(stderr, "paced: RATE from 1, CONNECTIONS from 1 to %d\n", MOST_LINES);
        return 2;
    }
    load.path = argc > 6 ? argv[6] : "/v1/validate";
    load.random = (uint64_t)now_ns() | 1;
    prctl(PR_SET_TIMERSLACK, 1UL); /* ns; by default waits may end 50 µs late */
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    read_tokens(argv[5]);
    for (size_t i = 0; i < connections; i++)
        open_line(&load.lines[i], argv[1]);
    int64_t took_ns = run((uint64_t)((double)rate * seconds), rate, seconds);
    printf("result %lu %ld %u %u %lu\n", (unsigned long)load.answers, (long)(took_ns / 1000),
           percentile(50), percentile(99), (unsigned long)load.errors);
    return 0;
}
