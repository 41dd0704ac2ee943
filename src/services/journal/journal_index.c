/* The revocations in memory, found by owner and by number. Long walks go in slices, since workers
 * wait for the lock. */
#include "journal_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "journal_entry.h"
#include "metrics.h"

enum {
    SLICE = 512,
    OWNER_CONFIRMED = 256, /* kept of one owner */
    DROPPED_AT_ONCE = 8
};

/* --- owners --- */

/* Owners are keyed hashes, which no caller can choose: all their bits are equally good. */
static uint64_t hash_of(const uint8_t owner[OWNER_TAG])
{
    uint64_t first, last;
    memcpy(&first, owner, sizeof(first));
    memcpy(&last, owner + OWNER_TAG - sizeof(last), sizeof(last));
    uint64_t mixed = (first ^ last) * UINT64_C(0x9E3779B97F4A7C15);
    return mixed ^ mixed >> 32;
}

static uint64_t hash_of_entry(const struct hash_seed *seed, const struct hash_node *node)
{
    (void)seed;
    return hash_of(((const struct journal_entry *)node)->owner);
}

static _Atomic uint32_t *count_of(const struct journal_index *index, const uint8_t *owner)
{
    return &index->counts[hash_of(owner) >> 48];
}

static bool may_have(const struct journal_index *index, const uint8_t *owner)
{
    return atomic_load_explicit(count_of(index, owner), memory_order_acquire) > 0;
}

/* The newest entry of the owner from here on; NULL if there is none. */
static struct journal_entry *of_owner(struct hash_node *node, const uint8_t *owner)
{
    while (node && !journal_entry_is_of((struct journal_entry *)node, owner))
        node = node->next;
    return (struct journal_entry *)node;
}

static struct journal_entry *first_of_owner(const struct journal_index *index, const uint8_t *owner)
{
    struct hash_node **chain = hash_table_chain(&index->owners, hash_of(owner));
    return chain ? of_owner(*chain, owner) : NULL;
}

static struct journal_entry *next_of_owner(const struct journal_entry *entry)
{
    return of_owner(entry->node.next, entry->owner);
}

void journal_index_init(struct journal_index *index)
{
    *index = (struct journal_index){.next_number = 1, .next_forget_s = INT64_MAX};
    index->counts = xcalloc(JOURNAL_COUNTS, sizeof(*index->counts));
    index->owners = (struct hash_table){.hash = hash_of_entry};
    journal_shares_init(&index->shares);
    pthread_mutex_init(&index->lock, NULL);
}

/* --- the lock and the gauges --- */

struct totals {
    size_t records, unconfirmed;
};

static struct totals lock_index(struct journal_index *index)
{
    pthread_mutex_lock(&index->lock);
    return (struct totals){index->records, index->unconfirmed};
}

/* Unlocks, and moves the gauges by the change since lock_index(). */
static void unlock_index(struct journal_index *index, struct totals before)
{
    struct totals now = {index->records, index->unconfirmed};
    assert(now.unconfirmed <= now.records);
    pthread_mutex_unlock(&index->lock);
    if (now.records != before.records)
        metrics_gauge_add(METRIC_JOURNAL_RECORDS, (int64_t)now.records - (int64_t)before.records);
    if (now.unconfirmed != before.unconfirmed)
        metrics_gauge_add(METRIC_JOURNAL_UNCONFIRMED,
                          (int64_t)now.unconfirmed - (int64_t)before.unconfirmed);
}

/* --- in and out --- */

/* An unconfirmed one is never forgotten: this journal may be its only copy. */
static void note_forgetting(int64_t *next_forget_s, const struct journal_entry *entry)
{
    if (entry->confirmed && entry->forget_s < *next_forget_s)
        *next_forget_s = entry->forget_s;
}

static void insert(struct journal_index *index, struct journal_entry *entry)
{
    hash_table_add(&index->owners, &entry->node, hash_of(entry->owner));
    journal_slots_insert(&index->slots, entry);
    index->records++;
    index->unconfirmed += !entry->confirmed;
    entry->share = journal_shares_put(&index->shares, entry->owner, journal_entry_size(entry),
                                      entry->confirmed);
    note_forgetting(&index->next_forget_s, entry);
    atomic_fetch_add_explicit(count_of(index, entry->owner), 1, memory_order_release);
}

/* Leaves a gap in the slots: journal_slots_tidy() must follow. */
static void remove_slot(struct journal_index *index, struct journal_slot *slot)
{
    struct journal_entry *entry = slot->entry;
    assert(entry && entry->number == slot->number);
    hash_table_remove(&index->owners, &entry->node, hash_of(entry->owner));
    assert(index->records > 0 && (entry->confirmed || index->unconfirmed > 0));
    slot->entry = NULL;
    index->records--;
    index->unconfirmed -= !entry->confirmed;
    journal_shares_take(&index->shares, entry->share, journal_entry_size(entry), entry->confirmed);
    atomic_fetch_sub_explicit(count_of(index, entry->owner), 1, memory_order_release);
    free(entry);
}

static void confirm_entry(struct journal_index *index, struct journal_entry *entry)
{
    assert(!entry->confirmed && index->unconfirmed > 0);
    journal_shares_confirm(&index->shares, entry->share, journal_entry_size(entry));
    entry->confirmed = true;
    index->unconfirmed--;
    note_forgetting(&index->next_forget_s, entry);
}

void journal_index_fini(struct journal_index *index)
{
    struct totals before = lock_index(index);
    for (size_t i = 0; i < index->slots.count; i++)
        if (index->slots.first[i].entry)
            remove_slot(index, &index->slots.first[i]);
    unlock_index(index, before);
    assert(index->records == 0 && index->unconfirmed == 0 && index->owners.chains.count == 0);
    pthread_mutex_destroy(&index->lock);
    journal_slots_free(&index->slots);
    journal_shares_fini(&index->shares);
    free(index->counts);
    buffer_free(&index->unmarked);
}

void journal_index_load(struct journal_index *index, const struct journal_record *record)
{
    struct totals before = lock_index(index);
    struct journal_entry *known = journal_slots_find(&index->slots, record->revocation.number);
    if (!record->is_mark && !known) {
        insert(index, journal_entry_new(&record->revocation));
        if (record->revocation.number >= index->next_number)
            index->next_number = record->revocation.number + 1;
    } else if (record->is_mark && known && !known->confirmed) {
        confirm_entry(index, known);
    }
    unlock_index(index, before);
}

void journal_index_loaded(struct journal_index *index, uint64_t next_number)
{
    pthread_mutex_lock(&index->lock);
    if (next_number > index->next_number)
        index->next_number = next_number;
    index->covered = index->next_number - 1;
    pthread_mutex_unlock(&index->lock);
}

/* --- adding --- */

static struct journal_entry *known_like(const struct journal_index *index,
                                        const struct revocation *revocation)
{
    struct journal_entry *at = first_of_owner(index, revocation->owner);
    while (at && !journal_entry_covers(at, revocation))
        at = next_of_owner(at);
    return at;
}

/* Drops confirmed ones of the tenants that have most, oldest first. It frees a little more than
 * needed, so that not every new one causes a walk; not much, since workers wait meanwhile. */
static void drop_confirmed(struct journal_index *index, int64_t needed, int64_t limit)
{
    struct journal_shares *shares = &index->shares;
    if (shares->bytes + needed <= limit)
        return;
    int64_t wanted = limit - limit / 64 - needed;
    int64_t level = journal_shares_level(shares, shares->bytes - wanted);
    for (size_t i = 0; i < index->slots.count && shares->bytes > wanted; i++) {
        const struct journal_entry *entry = index->slots.first[i].entry;
        if (entry && entry->confirmed && entry->share->bytes > level)
            remove_slot(index, &index->slots.first[i]);
    }
    journal_slots_tidy(&index->slots, index->records);
}

/* Every look-up of an owner walks its entries under the lock. A user who logs in in a loop must
 * neither slow these down nor displace others' revocations. The newest are first. */
static void forget_surplus(struct journal_index *index, const uint8_t owner[OWNER_TAG])
{
    size_t confirmed = 0;
    struct journal_entry *next;
    for (struct journal_entry *at = first_of_owner(index, owner); at; at = next) {
        next = next_of_owner(at);
        confirmed += at->confirmed;
        if (confirmed <= OWNER_CONFIRMED || !at->confirmed)
            continue;
        remove_slot(index, &index->slots.first[journal_slots_at(&index->slots, at->number)]);
        if (confirmed == OWNER_CONFIRMED + DROPPED_AT_ONCE)
            break;
    }
    journal_slots_tidy(&index->slots, index->records);
}

static bool is_written(const struct journal_index *index, const struct journal_entry *entry)
{
    return entry->written || entry->number <= index->covered;
}

static enum journal_added add_unless_known(struct journal_index *index,
                                           const struct revocation *revocation, int64_t limit,
                                           struct journal_entry **ret)
{
    struct revocation taken = *revocation;
    taken.reason = journal_text_cut(revocation->reason);
    taken.actor = journal_text_cut(revocation->actor);
    *ret = known_like(index, revocation);
    if (*ret)
        return JOURNAL_KNOWN;
    int64_t size = (int64_t)journal_record_size(&taken);
    if (!journal_shares_allow(&index->shares, taken.owner, size, limit))
        return JOURNAL_FULL;
    drop_confirmed(index, size, limit);
    taken.number = index->next_number++;
    taken.confirmed = false;
    *ret = journal_entry_new(&taken);
    insert(index, *ret);
    forget_surplus(index, (*ret)->owner);
    return JOURNAL_ADDED;
}

enum journal_added journal_index_add(struct journal_index *index,
                                     const struct revocation *revocation, int64_t limit,
                                     struct buffer *record, uint64_t *number)
{
    struct journal_entry *entry;
    struct totals before = lock_index(index);
    enum journal_added added = add_unless_known(index, revocation, limit, &entry);
    if (entry) {
        struct revocation fields = journal_entry_view(entry);
        *number = entry->number;
        if (!is_written(index, entry))
            journal_record_add(record, &fields);
    }
    unlock_index(index, before);
    return added;
}

/* --- looking --- */

bool journal_index_find(struct journal_index *index, const uint8_t owner[OWNER_TAG],
                        const uint8_t session[SESSION_ID], int64_t created_ms, struct arena *arena,
                        struct revocation *ret)
{
    if (!may_have(index, owner))
        return false;
    pthread_mutex_lock(&index->lock);
    const struct journal_entry *first = NULL;
    for (const struct journal_entry *at = first_of_owner(index, owner); at; at = next_of_owner(at))
        if (journal_entry_revokes(at, session, created_ms) &&
            (!first || at->number < first->number))
            first = at;
    if (first && ret)
        *ret = journal_entry_copy(first, arena);
    pthread_mutex_unlock(&index->lock);
    return first != NULL;
}

void journal_index_prefetch(struct journal_index *index, const uint8_t owner[OWNER_TAG])
{
    __builtin_prefetch(count_of(index, owner));
}

struct revocation *journal_index_of_owner(struct journal_index *index,
                                          const uint8_t owner[OWNER_TAG], struct arena *arena,
                                          size_t *count)
{
    struct revocation *found = NULL;
    size_t filled = 0;
    *count = 0;
    if (!may_have(index, owner))
        return NULL;
    pthread_mutex_lock(&index->lock);
    for (const struct journal_entry *at = first_of_owner(index, owner); at; at = next_of_owner(at))
        ++*count;
    if (*count > 0)
        found = arena_alloc(arena, *count * sizeof(*found));
    for (const struct journal_entry *at = found ? first_of_owner(index, owner) : NULL; at;
         at = next_of_owner(at))
        found[*count - ++filled] = journal_entry_copy(at, arena);
    assert(filled == *count);
    pthread_mutex_unlock(&index->lock);
    return found;
}

void journal_index_confirm(struct journal_index *index, uint64_t number)
{
    struct totals before = lock_index(index);
    struct journal_entry *entry = journal_slots_find(&index->slots, number);
    if (entry && !entry->confirmed) {
        confirm_entry(index, entry);
        buffer_add(&index->unmarked, &number, sizeof(number));
    }
    unlock_index(index, before);
}

size_t journal_index_list(struct journal_index *index, uint64_t before, bool unconfirmed_only,
                          struct arena *arena, struct revocation *ret, size_t most)
{
    size_t count = 0;
    bool more = true;
    while (more && count < most) {
        pthread_mutex_lock(&index->lock);
        size_t at = journal_slots_at(&index->slots, before);
        more = at > 0 && (!unconfirmed_only || index->unconfirmed > 0);
        for (size_t i = 0; more && i < SLICE && at > 0 && count < most; i++) {
            const struct journal_slot *slot = &index->slots.first[--at];
            before = slot->number;
            if (slot->entry && !(unconfirmed_only && slot->entry->confirmed))
                ret[count++] = journal_entry_copy(slot->entry, arena);
        }
        pthread_mutex_unlock(&index->lock);
    }
    return count;
}

void journal_index_usage(struct journal_index *index, struct journal_usage *ret)
{
    pthread_mutex_lock(&index->lock);
    ret->records = index->records;
    ret->unconfirmed = index->unconfirmed;
    ret->bytes = index->shares.bytes;
    pthread_mutex_unlock(&index->lock);
}

/* --- for the thread --- */

/* Expires one slice above `after`; returns its last number, 0 at the end. */
static uint64_t expire_slice(struct journal_index *index, uint64_t after, int64_t now_s,
                             int64_t *next_forget_s)
{
    uint64_t last = 0;
    size_t at = journal_slots_at(&index->slots, after + 1);
    for (size_t i = 0; i < SLICE && at < index->slots.count; i++, at++) {
        struct journal_slot *slot = &index->slots.first[at];
        last = slot->number;
        if (slot->entry && slot->entry->confirmed && slot->entry->forget_s < now_s)
            remove_slot(index, slot);
        else if (slot->entry)
            note_forgetting(next_forget_s, slot->entry);
    }
    return last;
}

size_t journal_index_expire(struct journal_index *index, int64_t now_s)
{
    int64_t next_forget_s = INT64_MAX;
    size_t expired = 0;
    uint64_t last = 0;
    bool first = true;
    do {
        struct totals before = lock_index(index);
        if (first && index->next_forget_s >= now_s) {
            unlock_index(index, before);
            return 0;
        }
        if (first) /* entries added during the walk lower it again */
            index->next_forget_s = INT64_MAX;
        first = false;
        last = expire_slice(index, last, now_s, &next_forget_s);
        expired += before.records - index->records;
        if (last == 0) {
            journal_slots_tidy(&index->slots, index->records);
            if (next_forget_s < index->next_forget_s)
                index->next_forget_s = next_forget_s;
        }
        unlock_index(index, before);
    } while (last > 0);
    return expired;
}

static void mark_slice(struct journal_index *index, struct text numbers, struct buffer *records)
{
    pthread_mutex_lock(&index->lock);
    for (size_t at = 0; at < numbers.length; at += sizeof(uint64_t)) {
        uint64_t number;
        memcpy(&number, numbers.data + at, sizeof(number));
        const struct journal_entry *entry = journal_slots_find(&index->slots, number);
        if (entry && is_written(index, entry))
            journal_record_add_mark(records, number);
        else if (entry)
            buffer_add(&index->unmarked, &number, sizeof(number));
    }
    pthread_mutex_unlock(&index->lock);
}

void journal_index_take_marks(struct journal_index *index, struct buffer *records)
{
    pthread_mutex_lock(&index->lock);
    struct buffer taken = index->unmarked;
    index->unmarked = (struct buffer){0};
    pthread_mutex_unlock(&index->lock);
    for (size_t at = 0; at < taken.length;) {
        size_t left = taken.length - at, most = SLICE * sizeof(uint64_t);
        struct text numbers = {taken.data + at, left < most ? left : most};
        mark_slice(index, numbers, records);
        at += numbers.length;
    }
    buffer_free(&taken);
}

uint64_t journal_index_copy(struct journal_index *index, uint64_t after, struct buffer *records,
                            uint64_t *end)
{
    uint64_t last = 0;
    pthread_mutex_lock(&index->lock);
    size_t at = journal_slots_at(&index->slots, after + 1);
    *end = index->next_number - 1;
    for (size_t i = 0; i < SLICE && at < index->slots.count; i++, at++) {
        last = index->slots.first[at].number;
        if (index->slots.first[at].entry) {
            struct revocation fields = journal_entry_view(index->slots.first[at].entry);
            journal_record_add(records, &fields);
        }
    }
    pthread_mutex_unlock(&index->lock);
    return last;
}

void journal_index_written(struct journal_index *index, const uint64_t *numbers, size_t count)
{
    for (size_t done = 0; done < count;) {
        pthread_mutex_lock(&index->lock);
        for (size_t i = 0; i < SLICE && done < count; i++) {
            struct journal_entry *entry = journal_slots_find(&index->slots, numbers[done++]);
            if (entry)
                entry->written = true;
        }
        pthread_mutex_unlock(&index->lock);
    }
}

void journal_index_cover(struct journal_index *index, uint64_t number)
{
    pthread_mutex_lock(&index->lock);
    if (number > index->covered)
        index->covered = number;
    pthread_mutex_unlock(&index->lock);
}

uint64_t journal_index_next(struct journal_index *index)
{
    pthread_mutex_lock(&index->lock);
    uint64_t next = index->next_number;
    pthread_mutex_unlock(&index->lock);
    return next;
}

uint64_t journal_index_covered(struct journal_index *index)
{
    pthread_mutex_lock(&index->lock);
    uint64_t covered = index->covered;
    pthread_mutex_unlock(&index->lock);
    return covered;
}

size_t journal_index_unwritten(struct journal_index *index)
{
    size_t count = 0;
    pthread_mutex_lock(&index->lock);
    for (size_t i = 0; i < index->slots.count; i++)
        count += index->slots.first[i].entry && !is_written(index, index->slots.first[i].entry);
    pthread_mutex_unlock(&index->lock);
    return count;
}
