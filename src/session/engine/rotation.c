/* Derives the next pair, records it, prints it. */
#include "rotation.h"

#include <assert.h>
#include <string.h>

#include "session/model/rules.h"
#include "session/model/session_json.h"

struct successors {
    struct token access, refresh;
};

/* Derives from the secret of the refresh token of that generation, or from its hash, as the record
 * says. */
static void derive(const struct rotation *rotation, const uint8_t *secret, uint32_t generation,
                   struct successors *ret)
{
    const struct session *session = rotation->session;
    const struct keyring *keyring = rotation->operation->context->keyring;
    enum token_origin origin = session->record.from_hash ? ORIGIN_HASH : ORIGIN_SECRET;
    struct token before = {.key_id = keyring_newest(keyring), .owner = *rotation->owner};
    memcpy(before.session_id, session->id, SESSION_ID);
    memcpy(before.secret, secret, SECRET_LENGTH);
    ret->access = ret->refresh = before;
    token_succeed(keyring, &before, origin, generation, ret->access.secret, ret->refresh.secret);
    crypto_wipe(&before, sizeof(before));
}

void rotation_note_times(const struct session *session, const struct policy *policy, int64_t now_ms,
                         struct issued_pair *ret)
{
    struct lifetimes lifetimes = rules_lifetimes(session, policy, now_ms / 1000);
    ret->access_expires_s = lifetimes.access_s;
    ret->refresh_expires_s = lifetimes.session_s;
    ret->idle_expires_s = lifetimes.idle_s;
}

/* Prints the pair and wipes it. */
static void issue(const struct rotation *rotation, const struct policy *policy,
                  struct successors *next, struct issued_pair *ret)
{
    const struct session *session = rotation->session;
    const struct keyring *keyring = rotation->operation->context->keyring;
    token_print(keyring, TOKEN_ACCESS, &next->access, ret->access_token);
    token_print(keyring, TOKEN_REFRESH, &next->refresh, ret->refresh_token);
    crypto_wipe(next, sizeof(*next));
    rotation_note_times(session, policy, rotation->operation->now_ms, ret);
    ret->device_json = session_json_device(session->record.session_json);
    ret->roles_json = session_json_roles(session->record.session_json);
    ret->remember = session->record.remember;
}

static void keep_previous(struct record *record, bool over)
{
    memcpy(record->previous_access_hash, record->access_hash, SECRET_HASH);
    memcpy(record->previous_refresh_hash, record->refresh_hash, SECRET_HASH);
    record->has_previous = true;
    record->previous_access_over = over;
}

/* The pair becomes the session's present one, in its record and in the edit. */
static void record_pair(const struct rotation *rotation, const struct successors *next,
                        struct user_state *state, const struct policy *policy, struct edit *edit)
{
    struct session *session = rotation->session;
    struct record *record = &session->record;
    const struct keyring *keyring = rotation->operation->context->keyring;
    int64_t now_ms = rotation->operation->now_ms;
    token_hash_secret(keyring, TOKEN_ACCESS, session->id, next->access.secret, record->access_hash);
    token_hash_secret(keyring, TOKEN_REFRESH, session->id, next->refresh.secret,
                      record->refresh_hash);
    bool wrong = edit->trust == CLOCK_AGREED && rules_is_ahead(record->issued_ms, now_ms);
    record->issued_ms = now_ms > record->issued_ms || wrong ? now_ms : record->issued_ms + 1;
    edit_set_session(edit, session->id, record);
    edit->invalidates = true;
    rules_tidy(edit, state, session, policy, now_ms);
}

void rotation_advance(const struct rotation *rotation, struct user_state *state,
                      const struct policy *policy, struct edit *edit, struct issued_pair *ret)
{
    assert(!rotation->session->ended);
    struct session *session = rotation->session;
    struct record *record = &session->record;
    int64_t now_ms = rotation->operation->now_ms;
    struct successors next;
    record->from_hash = rotation->secret == NULL;
    derive(rotation, record->from_hash ? record->refresh_hash : rotation->secret,
           record->generation++, &next);
    keep_previous(record,
                  now_ms / 1000 >= rules_lifetimes(session, policy, now_ms / 1000).access_s);
    record->previous_refresh_over = false;
    record_pair(rotation, &next, state, policy, edit);
    issue(rotation, policy, &next, ret);
}

static void open_secrets(const struct rotation *rotation, const struct fresh_secrets *secrets,
                         struct successors *ret)
{
    assert(secrets->made);
    struct token token = {.key_id = keyring_newest(rotation->operation->context->keyring),
                          .owner = *rotation->owner};
    memcpy(token.session_id, rotation->session->id, SESSION_ID);
    ret->access = ret->refresh = token;
    memcpy(ret->access.secret, secrets->access, SECRET_LENGTH);
    memcpy(ret->refresh.secret, secrets->refresh, SECRET_LENGTH);
}

void rotation_renew(const struct rotation *rotation, struct fresh_secrets *secrets,
                    struct user_state *state, const struct policy *policy, struct edit *edit,
                    struct issued_pair *ret)
{
    assert(!rotation->session->ended);
    struct record *record = &rotation->session->record;
    struct successors next;
    if (!secrets->made) {
        crypto_random(secrets->access, SECRET_LENGTH);
        crypto_random(secrets->refresh, SECRET_LENGTH);
        secrets->made = true;
    }
    open_secrets(rotation, secrets, &next);
    record->from_hash = false;
    record->generation++;
    keep_previous(record, true);
    record->previous_refresh_over = true;
    record_pair(rotation, &next, state, policy, edit);
    issue(rotation, policy, &next, ret);
}

void rotation_reprint(const struct rotation *rotation, const struct fresh_secrets *secrets,
                      const struct policy *policy, struct issued_pair *ret)
{
    struct successors next;
    open_secrets(rotation, secrets, &next);
    issue(rotation, policy, &next, ret);
}

void rotation_repeat(const struct rotation *rotation, const struct policy *policy,
                     struct issued_pair *ret)
{
    const struct record *record = &rotation->session->record;
    const uint8_t *secret = record->from_hash ? record->previous_refresh_hash : rotation->secret;
    struct successors next;
    assert(secret != NULL);
    assert(record->has_previous);
    derive(rotation, secret, record->generation - 1, &next);
    issue(rotation, policy, &next, ret);
}
