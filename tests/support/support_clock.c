#include "support_clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

enum { THREADS = 256 };

/* Waits of each thread when it was last looked at, by thread id; ended threads stay.
 */
static struct {
    int64_t thread, waited_ns;
} seen[THREADS];

static int64_t total_ns;

static void look_at(int64_t thread)
{
    char path[64];
    int64_t ran_ns, waited_ns;
    size_t at = (size_t)thread % THREADS;
    snprintf(path, sizeof(path), "/proc/self/task/%" PRId64 "/schedstat", thread);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fscanf(file, "%" SCNd64 " %" SCNd64, &ran_ns, &waited_ns) == 2) {
        total_ns += waited_ns - (seen[at].thread == thread ? seen[at].waited_ns : 0);
        seen[at].thread = thread;
        seen[at].waited_ns = waited_ns;
    }
    fclose(file);
}

static void look_at_all(void)
{
    DIR *threads = fdopendir(open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (struct dirent *entry; threads && (entry = readdir(threads));)
        if (entry->d_name[0] != '.')
            look_at(strtoll(entry->d_name, NULL, 10));
    if (threads)
        closedir(threads);
}

int64_t support_clock_ms(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t latest_ms;
    pthread_mutex_lock(&lock);
    look_at_all();
    int64_t now_ms = clock_monotonic_ms() - total_ns / 1000000;
    latest_ms = now_ms > latest_ms ? now_ms : latest_ms;
    now_ms = latest_ms;
    pthread_mutex_unlock(&lock);
    return now_ms;
}
