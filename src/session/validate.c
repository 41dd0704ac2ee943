/* Validation: one read of two fields and the user record, judged, and perhaps a touch. The hot
 * path: no JSON is parsed or built here, the record's text is ready to send. */
#include <string.h>

#include "change.h"
#include "metrics.h"
#include "operation.h"
#include "rules.h"
#include "shown.h"

struct lookup {
    struct validate *validate;
    struct store_call call;
    struct text arguments[5];
    char key[USER_KEY_LENGTH];
    char touch_field[TOUCH_FIELD];
};

enum { REPLY_RECORD, REPLY_TOUCH, REPLY_USER, REPLY_FIELDS };

static struct text field_of(const struct store_reply *reply, size_t index)
{
    return store_reply_text(store_reply_element(reply, index));
}

static void touch_if_due(struct validate *validate, const struct session *session,
                         const struct policy *policy, struct lifetimes *lifetimes)
{
    int64_t now_s = validate->base.now_ms / 1000;
    if (!validate->touch || !rules_touch_due(session, policy, now_s))
        return;
    struct session touched = *session;
    touched.last_seen_s = now_s;
    *lifetimes = rules_lifetimes(&touched, policy);
    change_touch(&validate->base, &validate->parsed.owner, session->id, now_s,
                 lifetimes->session_s * 1000);
}

static void accept_session(struct validate *validate, const struct user_record *user,
                           const struct session *session)
{
    struct operation *operation = &validate->base;
    uint8_t hash[SECRET_HASH];
    struct policy policy;
    policy_of(operation->conf, &policy);
    token_hash_secret(operation->context->keyring, TOKEN_ACCESS, session->id,
                      validate->parsed.secret, hash);
    operation_note_session(operation, session);
    struct text reason = rules_judge_access(user, session, hash, &policy, operation->now_ms);
    if (reason.data) {
        operation_refuse(operation, ERR_TOKEN_INVALID, reason);
        return;
    }
    struct lifetimes lifetimes = rules_lifetimes(session, &policy);
    touch_if_due(validate, session, &policy, &lifetimes);
    validate->shown = shown_complete(operation->arena, session->record.shown, session->id);
    validate->access_expires_s = lifetimes.access_s;
    validate->idle_expires_s = lifetimes.idle_s;
}

static void refuse_unreadable(struct validate *validate)
{
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    operation_refuse(&validate->base, ERR_TOKEN_INVALID, TEXT(REASON_UNKNOWN));
}

/* What Redis has in the session's place is not the session: says why. */
static void refuse_record(struct validate *validate, enum record_kind kind,
                          const struct record_content *content)
{
    if (kind == RECORD_TOMBSTONE)
        operation_refuse_buried(&validate->base, ERR_TOKEN_INVALID, &content->tombstone);
    else
        refuse_unreadable(validate);
}

static void judge_record(struct validate *validate, const struct state_codec *codec,
                         const struct store_reply *reply)
{
    struct arena *arena = validate->base.arena;
    struct record_place place = {&codec->owner, validate->parsed.session_id};
    struct record_content content;
    struct user_record user;
    struct session session;
    int64_t seen_s;
    enum record_kind kind = record_read(codec->keyring, codec->encrypt, place,
                                        field_of(reply, REPLY_RECORD), arena, &content);
    if (kind != RECORD_SESSION) {
        refuse_record(validate, kind, &content);
        return;
    }
    if (!state_read_user(codec, field_of(reply, REPLY_USER), arena, &user)) {
        refuse_unreadable(validate);
        return;
    }
    session_open(&session, validate->parsed.session_id, &content.session, arena);
    if (store_reply_int(store_reply_element(reply, REPLY_TOUCH), &seen_s) &&
        seen_s > session.last_seen_s)
        session.last_seen_s = seen_s;
    accept_session(validate, &user, &session);
}

static void judge_reply(struct validate *validate, const struct store_reply *reply)
{
    struct operation *operation = &validate->base;
    struct state_codec codec = operation_codec(operation, &validate->parsed.owner);
    struct user_state empty = {0};
    operation->session_id = operation_session_id(operation, validate->parsed.session_id);
    if (!field_of(reply, REPLY_RECORD).data)
        operation_refuse_missing(operation, &empty, &validate->parsed, ERR_TOKEN_INVALID);
    else if (record_is_foreign(codec.keyring, field_of(reply, REPLY_RECORD)) ||
             record_is_foreign(codec.keyring, field_of(reply, REPLY_USER)))
        operation->err = ERR_SEAL_KEY_UNKNOWN;
    else
        judge_record(validate, &codec, reply);
}

/* Three strings or nils: anything else is another command's answer, and no word about this token.
 */
static bool is_lookup_reply(const struct store_reply *reply)
{
    if (store_reply_type(reply) != STORE_ARRAY || store_reply_count(reply) != REPLY_FIELDS)
        return false;
    for (size_t i = 0; i < REPLY_FIELDS; i++) {
        enum store_type type = store_reply_type(store_reply_element(reply, i));
        if (type != STORE_STRING && type != STORE_NIL)
            return false;
    }
    return true;
}

static void lookup_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct lookup *lookup = (struct lookup *)((char *)call - offsetof(struct lookup, call));
    struct validate *validate = lookup->validate;
    if (err == ERR_OK && !is_lookup_reply(reply))
        err = ERR_STORE_PROTOCOL;
    if (err == ERR_OK)
        judge_reply(validate, reply);
    else
        validate->base.err = err;
    operation_done(&validate->base);
}

static void send_lookup(struct validate *validate)
{
    struct operation *operation = &validate->base;
    const struct token *token = &validate->parsed;
    struct lookup *lookup = arena_alloc(operation->arena, sizeof(*lookup));
    lookup->validate = validate;
    token_user_key(&token->owner, 'u', lookup->key);
    memcpy(lookup->touch_field, token->session_id, SESSION_ID);
    lookup->touch_field[SESSION_ID] = 't';
    lookup->arguments[0] = TEXT("HMGET");
    lookup->arguments[1] = (struct text){lookup->key, USER_KEY_LENGTH};
    lookup->arguments[2 + REPLY_RECORD] = (struct text){lookup->touch_field, SESSION_ID};
    lookup->arguments[2 + REPLY_TOUCH] = (struct text){lookup->touch_field, TOUCH_FIELD};
    lookup->arguments[2 + REPLY_USER] = TEXT(STATE_FIELD_USER);
    lookup->call = (struct store_call){
        .key = lookup->arguments[1],
        .arguments = lookup->arguments,
        .argument_count = 2 + REPLY_FIELDS,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = lookup_done,
    };
    store_send(operation->context->link, &lookup->call);
}

void session_validate(struct validate *validate)
{
    struct operation *operation = &validate->base;
    if (!operation_open_token(operation, TOKEN_ACCESS, validate->token, validate->tenant,
                              validate->tenant_bound, ERR_TOKEN_INVALID, &validate->parsed)) {
        operation_done(operation);
        return;
    }
    send_lookup(validate);
}
