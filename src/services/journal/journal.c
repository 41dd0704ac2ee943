/* The workers' side of the journal: puts revocations into the index and their records into the
 * commit queue. */
#include "journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"
#include "metrics.h"

/* --- start and stop --- */

void journal_reload(struct journal *journal, const struct conf *conf)
{
    atomic_store(&journal->max_bytes, conf->journal_max_bytes);
}

void journal_rekey(struct journal *journal, struct keyring *keyring)
{
    struct keyring *untaken = atomic_exchange(&journal->new_keyring, keyring_ref(keyring));
    keyring_unref(&untaken);
}

static struct journal *create_journal(const struct conf *conf, struct keyring *keyring)
{
    struct journal *journal = xcalloc(1, sizeof(*journal));
    commit_queue_init(&journal->queue, &journal_writer, journal);
    journal_index_init(&journal->index);
    journal_file_init(&journal->file, conf->journal_file, keyring);
    journal_reload(journal, conf);
    return journal;
}

static void destroy_journal(struct journal *journal)
{
    metrics_gauge_add(METRIC_JOURNAL_BYTES, -atomic_load(&journal->file_bytes));
    struct keyring *untaken = atomic_load(&journal->new_keyring);
    commit_queue_fini(&journal->queue);
    journal_index_fini(&journal->index);
    journal_file_fini(&journal->file);
    keyring_unref(&untaken);
    buffer_free(&journal->backlog);
    buffer_free(&journal->marks);
    buffer_free(&journal->written);
    free(journal);
}

static bool start_journal_thread(struct journal *journal, struct buffer *error)
{
    int cause = commit_queue_start(&journal->queue);
    if (cause != 0)
        buffer_addf(error, "the journal's thread cannot be started: %s", strerrordesc_np(cause));
    return cause == 0;
}

struct journal *journal_open(const struct conf *conf, struct keyring *keyring, struct buffer *error)
{
    struct journal *journal = create_journal(conf, keyring);
    if (journal_writer_prepare(journal, error) && start_journal_thread(journal, error))
        return journal;
    destroy_journal(journal);
    return NULL;
}

void journal_close(struct journal **journal)
{
    struct journal *closing = *journal;
    *journal = NULL;
    if (!closing)
        return;
    commit_queue_stop(&closing->queue);
    destroy_journal(closing);
}

bool journal_healthy(const struct journal *journal)
{
    return commit_queue_healthy(&journal->queue);
}

/* --- lanes --- */

struct journal_lane *journal_lane_create(struct journal *journal, void (*wake)(void *), void *user)
{
    struct journal_lane *lane = commit_lane_create(&journal->queue, sizeof(*lane), wake, user);
    lane->journal = journal;
    return lane;
}

void journal_lane_destroy(struct journal_lane **lane)
{
    struct journal_lane *closing = *lane;
    *lane = NULL;
    if (!closing)
        return;
    buffer_free(&closing->record);
    commit_lane_destroy(&closing->commit);
}

void journal_flush(struct journal_lane *lane)
{
    commit_lane_flush(&lane->commit);
}

void journal_collect(struct journal_lane *lane)
{
    commit_lane_collect(&lane->commit);
}

/* --- revocations --- */

bool journal_add(struct journal_lane *lane, const struct revocation *revocation,
                 struct commit_ticket *ticket, uint64_t *number)
{
    struct journal *journal = lane->journal;
    int64_t limit = journal_limit(atomic_load(&journal->max_bytes));
    uint64_t added_number = 0;
    assert(revocation->kind >= REVOKE_SESSION && revocation->kind <= REVOKE_LIFT);
    lane->record.length = 0;
    enum journal_added added =
        journal_index_add(&journal->index, revocation, limit, &lane->record, &added_number);
    if (added == JOURNAL_FULL) {
        metrics_add(METRIC_JOURNAL_REFUSED, 1);
        return false;
    }
    assert(added_number > 0);
    if (added == JOURNAL_ADDED)
        metrics_add(METRIC_JOURNAL_APPENDS, 1);
    if (ticket || added == JOURNAL_ADDED)
        commit_lane_put(&lane->commit, ticket, added_number, buffer_text(&lane->record));
    if (number)
        *number = added_number;
    return true;
}

/* --- questions --- */

bool journal_find(struct journal *journal, const uint8_t owner[OWNER_TAG],
                  const uint8_t session[SESSION_ID], int64_t created_ms, struct arena *arena,
                  struct revocation *ret)
{
    return journal_index_find(&journal->index, owner, session, created_ms, arena, ret);
}

void journal_prefetch(struct journal *journal, const uint8_t owner[OWNER_TAG])
{
    journal_index_prefetch(&journal->index, owner);
}

struct revocation *journal_of_owner(struct journal *journal, const uint8_t owner[OWNER_TAG],
                                    struct arena *arena, size_t *count)
{
    return journal_index_of_owner(&journal->index, owner, arena, count);
}

void journal_confirm(struct journal *journal, uint64_t number)
{
    journal_index_confirm(&journal->index, number);
}

size_t journal_list(struct journal *journal, uint64_t before, bool unconfirmed_only,
                    struct arena *arena, struct revocation *ret, size_t most)
{
    return journal_index_list(&journal->index, before, unconfirmed_only, arena, ret, most);
}

void journal_usage(struct journal *journal, struct journal_usage *ret)
{
    journal_index_usage(&journal->index, ret);
    ret->bytes = atomic_load(&journal->file_bytes);
}
