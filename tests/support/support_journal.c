#include "support_journal.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "support_keys.h"

struct journal_trial trial;

void trial_set_up(void)
{
    snprintf(trial.directory, sizeof(trial.directory), "/tmp/check_journal.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(trial.directory));
    snprintf(trial.path, sizeof(trial.path), "%s/journal", trial.directory);
    trial.conf.journal_file = trial.path;
    trial.conf.journal_max_bytes = 67108864;
    trial.keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
}

void trial_tear_down(void)
{
    DIR *directory = fdopendir(open(trial.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(trial.directory);
    arena_free(&trial.arena);
    keyring_unref(&trial.keyring);
}

void trial_start(void)
{
    struct buffer error = {0};
    trial.journal = journal_open(&trial.conf, trial.keyring, &error);
    ck_assert_msg(trial.journal != NULL, "%.*s", (int)error.length, error.data);
    trial.lane = journal_lane_create(trial.journal, NULL, NULL);
}

const char *trial_start_refused(void)
{
    struct buffer error = {0};
    ck_assert_ptr_null(journal_open(&trial.conf, trial.keyring, &error));
    struct text text = arena_copy(&trial.arena, buffer_text(&error));
    buffer_free(&error);
    ck_assert_ptr_nonnull(text.data);
    return text.data;
}

void trial_stop(void)
{
    journal_lane_destroy(&trial.lane);
    journal_close(&trial.journal);
    ck_assert_ptr_null(trial.lane);
    ck_assert_ptr_null(trial.journal);
}

static void put(uint8_t *out, unsigned number)
{
    for (int i = 3; i >= 0; i--, number >>= 8)
        out[i] = (uint8_t)number;
}

static struct revocation revocation_of(unsigned owner, enum revocation_kind kind)
{
    struct revocation revocation = {.kind = kind,
                                    .at_ms = clock_wall_ms(),
                                    .forget_s = clock_wall_ms() / 1000 + 3600,
                                    .reason = TEXT("kicked"),
                                    .actor = TEXT("alice")};
    put(revocation.owner + 6, owner);
    return revocation;
}

struct revocation trial_session(unsigned owner, unsigned session)
{
    struct revocation revocation = revocation_of(owner, REVOKE_SESSION);
    put(revocation.session, session);
    return revocation;
}

struct revocation trial_before(unsigned owner, int64_t before_ms)
{
    struct revocation revocation = revocation_of(owner, REVOKE_BEFORE);
    revocation.before_ms = before_ms;
    return revocation;
}

struct revocation trial_before_but(unsigned owner, int64_t before_ms, unsigned exempt)
{
    struct revocation revocation = trial_before(owner, before_ms);
    revocation.has_exempt = true;
    put(revocation.session, exempt);
    return revocation;
}

static void note_decision(struct commit_ticket *ticket, bool written)
{
    *(written ? &trial.written : &trial.refused) += 1;
    free(ticket);
}

struct commit_ticket *trial_ticket(void)
{
    struct commit_ticket *ticket = calloc(1, sizeof(*ticket));
    ck_assert_ptr_nonnull(ticket);
    ticket->done = note_decision;
    return ticket;
}

uint64_t trial_add(struct revocation revocation, bool durable)
{
    uint64_t number = 0;
    ck_assert(journal_add(trial.lane, &revocation, durable ? trial_ticket() : NULL, &number));
    ck_assert_uint_gt(number, 0);
    return number;
}

uint64_t trial_write(struct revocation revocation)
{
    int written = trial.written;
    uint64_t number = trial_add(revocation, true);
    trial_collect(written + trial.refused + 1);
    ck_assert_int_eq(trial.written, written + 1);
    return number;
}

void trial_collect(int tickets)
{
    double until = trial_seconds() + 10;
    journal_flush(trial.lane);
    while (trial.written + trial.refused < tickets && trial_seconds() < until) {
        journal_collect(trial.lane);
        trial_nap();
    }
    ck_assert_int_eq(trial.written + trial.refused, tickets);
}

bool trial_finds(unsigned owner, unsigned session, int64_t created_ms)
{
    struct revocation wanted = trial_session(owner, session);
    return journal_find(trial.journal, wanted.owner, wanted.session, created_ms, NULL, NULL);
}

struct journal_usage trial_usage(void)
{
    struct journal_usage usage;
    journal_usage(trial.journal, &usage);
    return usage;
}

void trial_assert_gauges(void)
{
    struct journal_usage usage = trial_usage();
    trial_wait_until(metrics_read(METRIC_JOURNAL_RECORDS) == (int64_t)usage.records);
    trial_wait_until(metrics_read(METRIC_JOURNAL_UNCONFIRMED) == (int64_t)usage.unconfirmed);
}

void trial_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

double trial_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct buffer trial_read(const char *path)
{
    struct buffer bytes = {0};
    FILE *stream = fopen(path, "r");
    ck_assert_ptr_nonnull(stream);
    char chunk[65536];
    size_t count;
    while ((count = fread(chunk, 1, sizeof(chunk), stream)) > 0)
        buffer_add(&bytes, chunk, count);
    fclose(stream);
    return bytes;
}

void trial_overwrite(const char *path, const void *data, size_t length)
{
    FILE *stream = fopen(path, "w");
    ck_assert_ptr_nonnull(stream);
    ck_assert_uint_eq(fwrite(data, 1, length, stream), length);
    fclose(stream);
}

int trial_files(const char *part, char found[512])
{
    int count = 0;
    DIR *directory = fdopendir(open(trial.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const struct dirent *entry;
    ck_assert_ptr_nonnull(directory);
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || !strstr(entry->d_name, part))
            continue;
        count++;
        if (found)
            snprintf(found, 512, "%s/%s", trial.directory, entry->d_name);
    }
    closedir(directory);
    return count;
}
