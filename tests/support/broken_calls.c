/* Loaded in front of the C library (LD_PRELOAD) by tests: write, fsync, fdatasync and getaddrinfo
 * that fail or hang while a file says so, a wall clock that is wrong, a host that has slept.
 *
 * SESSIOND_TEST_CLOCK names a file of 8 bytes, a number in the machine's byte order: so many
 * milliseconds is CLOCK_REALTIME ahead. It is looked at with each call. SESSIOND_TEST_SLEPT names
 * another: so many milliseconds has the host slept, which CLOCK_REALTIME and CLOCK_BOOTTIME count
 * and CLOCK_MONOTONIC does not.
 *
 * The file is named by SESSIOND_TEST_FAULTS and read at each of these calls. Its lines are
 * `<call> <harm> <prefix>`: the call is `write`, `sync` or `resolve`; the harm is `EIO`, or
 * milliseconds that the call takes before it goes on; the prefix is that of the path of the file
 * that is written or synced (what wakes threads is written to an `anon_inode:`), or of the name
 * that is looked up ("" with `resolve`: all). A look-up that waited fails, like one whose name
 * server was silent. Each harm that was done is a byte in the file `<that name>.done`. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct harm {
    bool fails;
    long milliseconds;
};

/* The line of the file that speaks of the call, if there is one. */
static bool read_line(const char *line, const char *call, const char *subject, struct harm *ret)
{
    char named[16], harm[16], prefix[PATH_MAX] = "";
    if (sscanf(line, "%15s %15s %4095s", named, harm, prefix) < 2 || strcmp(named, call) != 0 ||
        strncmp(subject, prefix, strlen(prefix)) != 0)
        return false;
    ret->fails = strcmp(harm, "EIO") == 0;
    ret->milliseconds = ret->fails ? 0 : strtol(harm, NULL, 10);
    return true;
}

static size_t read_orders(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, out, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    out[length > 0 ? length : 0] = '\0';
    return length > 0 ? (size_t)length : 0;
}

/* Not by write(), which is the one below. */
static void note(const char *path)
{
    char done[PATH_MAX];
    snprintf(done, sizeof(done), "%s.done", path);
    int fd = open(done, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, "x", 1);
    close(fd);
}

static bool find_harm(const char *call, const char *subject, struct harm *ret)
{
    const char *path = getenv("SESSIOND_TEST_FAULTS");
    char orders[4096], *rest = NULL;
    if (path == NULL || read_orders(path, orders, sizeof(orders)) == 0)
        return false;
    for (char *line = strtok_r(orders, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (read_line(line, call, subject, ret)) {
            note(path);
            return true;
        }
    }
    return false;
}

static void wait_for(long milliseconds)
{
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* Files have a path, what wakes a thread is an anon_inode:[eventfd]; no sockets, no pipes. */
static bool has_name(const char *path)
{
    return path[0] == '/' || strncmp(path, "anon_inode:", sizeof("anon_inode:") - 1) == 0;
}

/* True if the call on the open file is to fail; waits if it is to wait. */
static bool fails(const char *call, int fd)
{
    char link[32], path[PATH_MAX];
    struct harm harm = {0};
    int before = errno;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    bool harmed = false;
    path[length > 0 ? length : 0] = '\0';
    if (has_name(path))
        harmed = find_harm(call, path, &harm);
    if (harmed && !harm.fails)
        wait_for(harm.milliseconds);
    errno = harmed && harm.fails ? EIO : before;
    return harmed && harm.fails;
}

/* The file's number, mapped once. */
static const volatile long long *map_number(const char *variable)
{
    const char *path = getenv(variable);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *mapped = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return mapped == MAP_FAILED ? NULL : mapped;
}

/* Moves a time by milliseconds, to the past, too. */
static void move(struct timespec *time, long long by_ms)
{
    long long ms = time->tv_nsec / 1000000 + by_ms % 1000;
    time->tv_sec += by_ms / 1000 + (ms < 0 ? -1 : ms / 1000);
    time->tv_nsec = (ms < 0 ? ms + 1000 : ms % 1000) * 1000000 + time->tv_nsec % 1000000;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    static const volatile long long *_Atomic ahead, *_Atomic slept;
    static _Atomic bool asked;
    static int (*_Atomic next)(clockid_t, struct timespec *);
    if (!next) {
        int (*found)(clockid_t, struct timespec *);
        *(void **)&found = dlsym(RTLD_NEXT, "clock_gettime");
        next = found;
    }
    if (!asked) {
        ahead = map_number("SESSIOND_TEST_CLOCK");
        slept = map_number("SESSIOND_TEST_SLEPT");
        asked = true;
    }
    int failed = next(id, now);
    if (!failed && id == CLOCK_REALTIME && ahead)
        move(now, *ahead);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_BOOTTIME) && slept)
        move(now, *slept);
    return failed;
}

/* Redis asks this one. */
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return failed;
}

ssize_t write(int fd, const void *data, size_t length)
{
    ssize_t (*next)(int, const void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "write");
    return fails("write", fd) ? -1 : next(fd, data, length);
}

int fdatasync(int fd)
{
    return fails("sync", fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails("sync", fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct harm harm = {0};
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node == NULL || !find_harm("resolve", node, &harm))
        return next(node, service, hints, ret);
    wait_for(harm.milliseconds);
    return EAI_AGAIN;
}
