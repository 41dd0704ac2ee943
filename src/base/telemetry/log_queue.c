/* A ring of bytes. Producers put whole lines at its head under the lock; the thread writes from its
 * tail without it, at most a PIPE_BUF at once, and frees the space once that is written. */
#include "log_queue.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "metrics.h"
#include "thread.h"

enum { RING_SIZE = 256 * 1024 };

static struct {
    pthread_mutex_t lock; /* guards all but what lies between tail and head */
    pthread_cond_t filled, written;
    bool started;
    size_t head, tail; /* bytes ever put, ever written */
    uint64_t dropped;  /* lines dropped since the last report */
    char ring[RING_SIZE];
} queue = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .filled = PTHREAD_COND_INITIALIZER,
    .written = PTHREAD_COND_INITIALIZER,
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void copy_in(const char *line, size_t length)
{
    size_t at = queue.head % RING_SIZE;
    size_t first = least(length, RING_SIZE - at);
    memcpy(queue.ring + at, line, first);
    memcpy(queue.ring, line + first, length - first);
    queue.head += length;
}

bool log_queue_put(const char *line, size_t length)
{
    pthread_mutex_lock(&queue.lock);
    bool started = queue.started;
    bool fits = RING_SIZE - (queue.head - queue.tail) >= length;
    if (started && fits) {
        copy_in(line, length);
        pthread_cond_signal(&queue.filled);
    } else if (started) {
        queue.dropped++;
    }
    pthread_mutex_unlock(&queue.lock);
    if (started && !fits)
        metrics_add(METRIC_LOG_LINES_DROPPED, 1);
    return started;
}

void log_queue_write(const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, data, length);
        if (written >= 0) {
            data += written;
            length -= (size_t)written;
        } else if (errno == EAGAIN) {
            (void)poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

/* Waits for bytes and returns how many lie together at `at`; 0: none are left, and `dropped` lines
 * are to be reported. */
static size_t next_part(size_t *at, uint64_t *dropped)
{
    pthread_mutex_lock(&queue.lock);
    while (queue.head == queue.tail && queue.dropped == 0)
        pthread_cond_wait(&queue.filled, &queue.lock);
    *at = queue.tail % RING_SIZE;
    size_t length = least(least(queue.head - queue.tail, RING_SIZE - *at), PIPE_BUF);
    if (length == 0) {
        *dropped = queue.dropped;
        queue.dropped = 0;
    }
    pthread_mutex_unlock(&queue.lock);
    return length;
}

static void free_written(size_t length)
{
    pthread_mutex_lock(&queue.lock);
    queue.tail += length;
    pthread_cond_broadcast(&queue.written);
    pthread_mutex_unlock(&queue.lock);
}

static void *run_log_writer(void *user)
{
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        size_t at;
        uint64_t dropped = 0;
        size_t length = next_part(&at, &dropped);
        if (length > 0) {
            log_queue_write(queue.ring + at, length);
            free_written(length);
        } else {
            log_warning("log_lines_dropped", "lines=%" PRIu64, dropped);
        }
    }
    return user;
}

int log_start(void)
{
    pthread_t thread;
    int error = thread_start(&thread, run_log_writer, NULL);
    if (error != 0)
        return error;
    pthread_detach(thread);
    pthread_mutex_lock(&queue.lock);
    queue.started = true;
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

void log_flush(int64_t most_ms)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += most_ms / 1000;
    end.tv_nsec += most_ms % 1000 * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    pthread_mutex_lock(&queue.lock);
    int waited = 0;
    while (queue.started && queue.head != queue.tail && waited == 0)
        waited = pthread_cond_clockwait(&queue.written, &queue.lock, CLOCK_MONOTONIC, &end);
    pthread_mutex_unlock(&queue.lock);
}
