/* Private to the journal: one revocation in memory, with its texts one allocation of about a
 * hundred bytes. */
#pragma once

#include "hash.h"
#include "journal_record.h"

struct journal_share;

struct journal_entry {
    struct hash_node node;       /* among its owner's, newest first */
    struct journal_share *share; /* its tenant's, while it is in the index */
    uint64_t number;
    int64_t before_ms;
    int64_t at_ms;
    int64_t forget_s;
    uint8_t owner[OWNER_TAG];
    uint8_t session[SESSION_ID]; /* REVOKE_FREEZE: the bytes of until_s */
    uint8_t kind;
    uint8_t reason_length, actor_length;
    bool has_exempt : 1;
    bool confirmed : 1;
    bool written : 1; /* in the file; so are numbers up to index->covered */
    char texts[];
};

/* A copy, freed with free(). */
struct journal_entry *journal_entry_new(const struct revocation *from);
/* With texts borrowed from the entry. */
struct revocation journal_entry_view(const struct journal_entry *entry);
/* With texts in the arena. */
struct revocation journal_entry_copy(const struct journal_entry *entry, struct arena *arena);
/* Bytes of its record. */
int64_t journal_entry_size(const struct journal_entry *entry);
/* At most 255 bytes of the text, and no character in part. */
struct text journal_text_cut(struct text text);

bool journal_entry_is_of(const struct journal_entry *entry, const uint8_t owner[OWNER_TAG]);
/* True if the entry revokes all that the revocation does, for as long, and is unconfirmed. */
bool journal_entry_covers(const struct journal_entry *entry, const struct revocation *revocation);
/* True if it revokes this session of its owner. */
bool journal_entry_revokes(const struct journal_entry *entry, const uint8_t session[SESSION_ID],
                           int64_t created_ms);
