/* The operator's log. A line is built on the stack and leaves in one write, so that lines of
 * different threads never mix and logging works even when memory has run out. */
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_SIZE = 2048 };

static _Atomic int least_level = LOG_LEVEL_INFO;

/* sd-daemon(3): the numbers of syslog. */
static const char priorities[] = {
    [LOG_LEVEL_DEBUG] = '7',
    [LOG_LEVEL_INFO] = '6',
    [LOG_LEVEL_WARNING] = '4',
    [LOG_LEVEL_ERROR] = '3',
};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

/* How much of what snprintf would have printed is there. */
static size_t printed(int wanted, size_t room)
{
    assert(wanted >= 0);
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

/* A line feed inside would begin a line that nobody logged. */
static void replace_controls(char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f)
            line[i] = '?';
    }
}

static void write_line(const char *line, size_t length)
{
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line, length);
    } while (written < 0 && errno == EINTR);
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed))
        return;
    int saved_errno = errno;
    char line[LINE_SIZE];
    /* The last byte is kept for the line feed, where snprintf puts its NUL. */
    size_t length =
        printed(snprintf(line, LINE_SIZE, "<%c>%s ", priorities[level], event), LINE_SIZE);
    va_list arguments;
    va_start(arguments, format);
    length += printed(vsnprintf(line + length, LINE_SIZE - length, format, arguments),
                      LINE_SIZE - length);
    va_end(arguments);
    replace_controls(line, length);
    if (line[length - 1] == ' ')
        length--;
    line[length++] = '\n';
    write_line(line, length);
    errno = saved_errno;
}

const char *log_quote(char *out, size_t size, struct text text)
{
    assert(size > 0);
    size_t length = text.length < size ? text.length : size - 1;
    for (size_t i = 0; i < length; i++) {
        char c = text.data[i];
        out[i] = c >= 0x20 && c < 0x7f && c != '"' && c != '\'' && c != '\\' ? c : '?';
    }
    out[length] = '\0';
    return out;
}
