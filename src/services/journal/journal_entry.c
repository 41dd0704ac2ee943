/* One revocation in memory: create, read, compare. */
#include "journal_entry.h"

#include <string.h>

struct text journal_text_cut(struct text text)
{
    size_t length = text.length;
    if (length > UINT8_MAX) {
        length = UINT8_MAX;
        while (length > 0 && ((uint8_t)text.data[length] & 0xC0) == 0x80)
            length--;
    }
    return (struct text){text.data, length};
}

struct journal_entry *journal_entry_new(const struct revocation *from)
{
    struct text reason = journal_text_cut(from->reason), actor = journal_text_cut(from->actor);
    struct journal_entry *entry = xmalloc(sizeof(*entry) + reason.length + actor.length);
    *entry = (struct journal_entry){.number = from->number,
                                    .before_ms = from->before_ms,
                                    .at_ms = from->at_ms,
                                    .forget_s = from->forget_s,
                                    .kind = (uint8_t)from->kind,
                                    .reason_length = (uint8_t)reason.length,
                                    .actor_length = (uint8_t)actor.length,
                                    .has_exempt = from->has_exempt,
                                    .confirmed = from->confirmed};
    memcpy(entry->owner, from->owner, OWNER_TAG);
    memcpy(entry->session, from->session, SESSION_ID);
    if (reason.length > 0)
        memcpy(entry->texts, reason.data, reason.length);
    if (actor.length > 0)
        memcpy(entry->texts + reason.length, actor.data, actor.length);
    return entry;
}

struct revocation journal_entry_view(const struct journal_entry *entry)
{
    struct revocation fields = {.kind = (enum revocation_kind)entry->kind,
                                .has_exempt = entry->has_exempt,
                                .before_ms = entry->before_ms,
                                .at_ms = entry->at_ms,
                                .forget_s = entry->forget_s,
                                .reason = {entry->texts, entry->reason_length},
                                .actor = {entry->texts + entry->reason_length, entry->actor_length},
                                .number = entry->number,
                                .confirmed = entry->confirmed};
    memcpy(fields.owner, entry->owner, OWNER_TAG);
    memcpy(fields.session, entry->session, SESSION_ID);
    return fields;
}

struct revocation journal_entry_copy(const struct journal_entry *entry, struct arena *arena)
{
    struct revocation copy = journal_entry_view(entry);
    copy.reason = arena_copy(arena, copy.reason);
    copy.actor = arena_copy(arena, copy.actor);
    return copy;
}

int64_t journal_entry_size(const struct journal_entry *entry)
{
    struct revocation fields = journal_entry_view(entry);
    return (int64_t)journal_record_size(&fields);
}

bool journal_entry_is_of(const struct journal_entry *entry, const uint8_t owner[OWNER_TAG])
{
    return memcmp(entry->owner, owner, OWNER_TAG) == 0;
}

bool journal_entry_covers(const struct journal_entry *entry, const struct revocation *revocation)
{
    bool same_session = memcmp(entry->session, revocation->session, SESSION_ID) == 0;
    if (entry->confirmed || entry->kind != (uint8_t)revocation->kind ||
        entry->forget_s < revocation->forget_s || !journal_entry_is_of(entry, revocation->owner))
        return false;
    switch (revocation->kind) {
    case REVOKE_SESSION:
        return same_session;
    case REVOKE_BEFORE:
        return entry->before_ms >= revocation->before_ms &&
               (!entry->has_exempt || (revocation->has_exempt && same_session));
    case REVOKE_FREEZE: /* these two hold from before_ms on only */
    case REVOKE_LIFT:
        return entry->before_ms == revocation->before_ms && same_session;
    }
    return false;
}

bool journal_entry_revokes(const struct journal_entry *entry, const uint8_t session[SESSION_ID],
                           int64_t created_ms)
{
    bool same_session = memcmp(entry->session, session, SESSION_ID) == 0;
    switch ((enum revocation_kind)entry->kind) {
    case REVOKE_SESSION:
        return same_session;
    case REVOKE_BEFORE:
    case REVOKE_FREEZE:
        return created_ms < entry->before_ms && !(entry->has_exempt && same_session);
    case REVOKE_LIFT:
        break;
    }
    return false;
}
