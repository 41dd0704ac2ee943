/* The operator's log. A line is built on the stack and handed on whole, so that lines of different
 * threads never mix and logging works even when memory has run out. */
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clean.h"
#include "clock.h"
#include "credential.h"
#include "log_queue.h"

enum { LINE_SIZE = 2048 };

static _Atomic int least_level = LOG_LEVEL_INFO;

/* The numbers of syslog for the journal, the words of the option for other outputs. */
static const struct {
    char priority;
    const char *word;
} levels[] = {
    [LOG_LEVEL_DEBUG] = {'7', "debug"},
    [LOG_LEVEL_INFO] = {'6', "info"},
    [LOG_LEVEL_WARNING] = {'4', "warning"},
    [LOG_LEVEL_ERROR] = {'3', "error"},
};

static bool find_journal(void)
{
    struct stat status;
    char own[48];
    const char *stream = getenv("JOURNAL_STREAM");
    if (!stream || fstat(STDERR_FILENO, &status) != 0)
        return false;
    snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, own) == 0;
}

/* True if stderr is the journal's; determined with the first line. */
static bool goes_to_journal(void)
{
    static _Atomic int answer = -1;
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known < 0) {
        known = find_journal();
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

/* The part of snprintf's output that fitted. */
static size_t printed(int wanted, size_t room)
{
    assert(wanted >= 0);
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

/* A line feed inside would forge a line. */
static void replace_controls(char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f)
            line[i] = '?';
    }
}

/* Writes the part before the values; returns its length. */
static size_t begin_line(char line[LINE_SIZE], enum log_level level, const char *event)
{
    if (goes_to_journal())
        return printed(snprintf(line, LINE_SIZE, "<%c>%s ", levels[level].priority, event),
                       LINE_SIZE);
    char now[CLOCK_TEXT];
    clock_text(now, clock_wall_ms());
    return printed(
        snprintf(line, LINE_SIZE, "%.*s %s %s ", CLOCK_TEXT, now, levels[level].word, event),
        LINE_SIZE);
}

bool log_pause_over(struct log_pause *pause)
{
    int64_t now_ms = clock_monotonic_ms(), last_ms = atomic_load(&pause->logged_ms);
    return (last_ms == 0 || now_ms - last_ms >= MINUTE_MS) &&
           atomic_compare_exchange_strong(&pause->logged_ms, &last_ms, now_ms);
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed))
        return;
    int saved_errno = errno;
    char line[LINE_SIZE];
    /* The last byte, snprintf's NUL, becomes the line feed. */
    size_t length = begin_line(line, level, event);
    va_list arguments;
    va_start(arguments, format);
    length += printed(vsnprintf(line + length, LINE_SIZE - length, format, arguments),
                      LINE_SIZE - length);
    va_end(arguments);
    replace_controls(line, length);
    if (line[length - 1] == ' ')
        length--;
    line[length++] = '\n';
    if (!log_queue_put(line, length))
        log_queue_write(line, length);
    errno = saved_errno;
}

/* The character in its quoted form; digits of credentials are hidden. */
static char quotable(char c, bool secret)
{
    bool good = c >= 0x20 && c < 0x7f && c != '"' && c != '\'' && c != '\\';
    return good && !secret ? c : '?';
}

const char *log_quote(char *out, size_t size, struct text text)
{
    assert(size > 0);
    size_t length = text.length < size ? text.length : size - 1;
    struct text rest = text, found = {0};
    bool more = credential_find(rest, &found);
    for (size_t i = 0; i < length; i++) {
        const char *at = text.data + i, *end = more ? found.data + found.length : NULL;
        out[i] = quotable(*at, more && at >= found.data + CREDENTIAL_PREFIX && at < end);
        if (more && at + 1 == end) {
            rest = (struct text){end, text.length - i - 1};
            more = credential_find(rest, &found);
        }
    }
    out[length] = '\0';
    return out;
}
