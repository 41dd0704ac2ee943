/* A user's edit: turns what an update decides into hash fields. */
#include "edit.h"

#include <assert.h>
#include <string.h>

static void append(struct arena *arena, struct text **list, size_t *count, size_t *capacity,
                   struct text text)
{
    assert(*count <= *capacity);
    if (*count == *capacity) {
        size_t wanted = *capacity ? *capacity * 2 : 16;
        struct text *grown = arena_alloc(arena, wanted * sizeof(*grown));
        if (*count > 0)
            memcpy(grown, *list, *count * sizeof(*grown));
        *list = grown;
        *capacity = wanted;
    }
    (*list)[(*count)++] = text;
}

static void edit_set_text(struct edit *edit, struct text field, struct text value)
{
    append(edit->arena, &edit->sets, &edit->set_count, &edit->set_capacity, field);
    append(edit->arena, &edit->sets, &edit->set_count, &edit->set_capacity, value);
}

static void edit_set(struct edit *edit, struct text field, const struct buffer *value)
{
    edit_set_text(edit, field, arena_copy(edit->arena, buffer_text(value)));
}

static void edit_delete(struct edit *edit, struct text field)
{
    append(edit->arena, &edit->deletes, &edit->delete_count, &edit->delete_capacity, field);
}

static struct text field_of(struct edit *edit, const uint8_t id[SESSION_ID])
{
    return arena_copy(edit->arena, (struct text){(const char *)id, SESSION_ID});
}

void edit_set_session(struct edit *edit, const uint8_t id[SESSION_ID], const struct record *record)
{
    SCOPED(buffer_free) struct buffer value = {0};
    struct record_position place = {&edit->codec->owner, id};
    struct record stamped = *record;
    stamped.version = edit->version;
    record_write(edit->codec->keyring, edit->codec->encrypt, place, edit->codec->format, &stamped,
                 &value);
    edit_set(edit, field_of(edit, id), &value);
}

void edit_set_tombstone(struct edit *edit, const uint8_t id[SESSION_ID],
                        const struct tombstone *tombstone)
{
    SCOPED(buffer_free) struct buffer value = {0};
    struct record_position place = {&edit->codec->owner, id};
    edit->gives_up = true;
    record_write_tombstone(edit->codec->keyring, edit->codec->encrypt, place, tombstone, &value);
    edit_set(edit, field_of(edit, id), &value);
    edit_delete_touch(edit, id);
}

void edit_end_session(struct edit *edit, const uint8_t id[SESSION_ID],
                      const struct tombstone *tombstone)
{
    edit_set_tombstone(edit, id, tombstone);
    edit->invalidates = true;
}

void edit_set_user(struct edit *edit, const struct user_record *user)
{
    SCOPED(buffer_free) struct buffer value = {0};
    record_write_user(edit->codec->keyring, edit->codec->encrypt, &edit->codec->owner, user,
                      &value);
    edit_set(edit, TEXT(STATE_FIELD_USER), &value);
}

void edit_set_names(struct edit *edit, const struct names *names)
{
    SCOPED(buffer_free) struct buffer value = {0};
    record_write_names(edit->codec->keyring, edit->codec->encrypt, &edit->codec->owner, names,
                       &value);
    edit_set(edit, TEXT(STATE_FIELD_NAMES), &value);
}

void edit_set_contexts(struct edit *edit, const struct contexts *contexts)
{
    SCOPED(buffer_free) struct buffer value = {0}, bytes = {0};
    struct record_position place = {&edit->codec->owner, state_no_session};
    contexts_write(contexts, &bytes);
    record_write_bytes(edit->codec->keyring, edit->codec->encrypt, place, RECORD_CONTEXTS,
                       buffer_text(&bytes), &value);
    edit_set(edit, TEXT(STATE_FIELD_CONTEXTS), &value);
}

void edit_set_guesses(struct edit *edit, const struct guesses *guesses)
{
    if (guesses->count > 0)
        edit_set_text(edit, TEXT(STATE_FIELD_GUESSES), guesses_write(guesses, edit->arena));
    else
        edit_delete(edit, TEXT(STATE_FIELD_GUESSES));
}

void edit_delete_touch(struct edit *edit, const uint8_t id[SESSION_ID])
{
    char *field = arena_alloc(edit->arena, TOUCH_FIELD);
    memcpy(field, id, SESSION_ID);
    field[SESSION_ID] = 't';
    edit_delete(edit, (struct text){field, TOUCH_FIELD});
}

void edit_delete_session(struct edit *edit, const uint8_t id[SESSION_ID])
{
    edit->gives_up = true;
    edit_delete(edit, field_of(edit, id));
    edit_delete_touch(edit, id);
}

void edit_add_tombstone(struct user_state *state, const uint8_t id[SESSION_ID],
                        const struct tombstone *tombstone, struct edit *edit)
{
    struct tombstone_entry *entry = &state->tombstones[state->tombstone_count++];
    memcpy(entry->id, id, SESSION_ID);
    entry->tombstone = *tombstone;
    if (edit)
        edit_end_session(edit, id, tombstone);
}

void edit_end_in_state(struct user_state *state, struct session *session,
                       const struct tombstone *tombstone, struct edit *edit)
{
    assert(session >= state->sessions && session < state->sessions + state->session_count);
    edit_add_tombstone(state, session->id, tombstone, edit);
    *session = state->sessions[--state->session_count];
}

void edit_forget_guesses(struct user_state *state, struct edit *edit)
{
    if (state->guesses.count == 0)
        return;
    state->guesses = (struct guesses){0};
    edit_set_guesses(edit, &state->guesses);
}
