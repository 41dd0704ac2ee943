/* The send buffer of a fresh socket takes all bytes at once, so the password needs no buffer of
 * ours. PING because the kernel accepts connections for a process that hangs: no call is entrusted
 * to a node that has not shown that it answers. */
#include "greeting.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "redis/protocol/command.h"
#include "redis/protocol/reply.h"

/* --- out --- */

/* A node of a cluster has an id; without a cluster the mark of the store is its id. False if there
 * is nothing to ask for. */
static bool add_id_question(const struct store_link *link, enum greeting_kind kind,
                            struct buffer *out)
{
    struct store_mark mark;
    if (kind == GREETING_SENTINEL)
        return false;
    if (link->settings->mode == REDIS_CLUSTER)
        command_append(out, (const struct text[]){TEXT("CLUSTER"), TEXT("MYID")}, 2);
    else if (store_state_read_mark(link->store, &mark))
        command_append(
            out, (const struct text[]){TEXT("HGET"), text_of(mark.key), text_of(mark.field)}, 3);
    return out->length > 0;
}

static bool send_whole(struct transport *transport, const struct buffer *bytes, int *failure)
{
    ssize_t written = transport_write(transport, bytes->data, bytes->length);
    *failure = written < 0 && errno != EAGAIN ? errno : 0;
    return written == (ssize_t)bytes->length;
}

bool greeting_send(struct greeting *greeting, struct transport *transport, enum greeting_kind kind,
                   int *failure)
{
    const struct settings *settings = transport->link->settings;
    const struct buffer *bytes = &settings->greeting;
    *greeting = (struct greeting){.owed = settings->greetings};
    if (kind == GREETING_REPLICA) {
        bytes = &settings->replica_greeting;
        greeting->owed = settings->greetings + 1;
    } else if (kind == GREETING_SENTINEL) {
        bytes = &settings->sentinel_greeting;
        greeting->owed = settings->sentinel_greetings;
    }
    SCOPED(buffer_free) struct buffer question = {0};
    greeting->asks_id = add_id_question(transport->link, kind, &question);
    greeting->owed += greeting->asks_id;
    return send_whole(transport, bytes, failure) &&
           (!greeting->asks_id || send_whole(transport, &question, failure));
}

/* --- in --- */

/* A server that does not know AUTH may quote the password: only words that are known to quote
 * nothing are logged. */
static bool quotes_nothing(const struct store_reply *reply)
{
    static const char *const openings[] = {
        "WRONGPASS ",
        "NOAUTH ",
        "NOPERM ",
        "DENIED ",
        "ERR AUTH <password> called without any",
        "ERR Client sent AUTH, but no password is set",
        "ERR invalid password",
    };
    struct text words = store_reply_text(reply);
    for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
        size_t length = strlen(openings[i]);
        if (words.length >= length && memcmp(words.data, openings[i], length) == 0)
            return true;
    }
    return false;
}

static enum greeting_progress refuse_greeting(const struct store_reply *reply, bool is_auth,
                                              char why[PROBLEM_WHY_MAX])
{
    if (is_auth && !quotes_nothing(reply))
        snprintf(why, PROBLEM_WHY_MAX, "refuses AUTH");
    else
        reply_words(reply, why, PROBLEM_WHY_MAX);
    return GREETING_REFUSED;
}

/* Without an answer the server counts as the right one. */
static void take_id(struct greeting *greeting, const struct transport *transport,
                    const struct store_reply *reply)
{
    if (reply_outcome(reply) == OUTCOME_ANSWER)
        greeting->id = node_id_read(store_reply_text(reply));
    else if (reply_outcome(reply) == OUTCOME_DENIED &&
             !atomic_exchange(&transport->link->store->id_denied_logged, true))
        log_warning("store_id_not_told",
                    "host=%s port=%u hint=\"grant +cluster|myid: servers of another cluster would "
                    "not be noticed\"",
                    transport->endpoint->host, transport->endpoint->port);
}

/* PING may get an error from a node that serves reads, like MISCONF. Only errors that pass, and a
 * missing password, keep the connection from coming up. */
enum greeting_progress greeting_take_reply(struct greeting *greeting,
                                           const struct transport *transport,
                                           const struct store_reply *reply, enum err *err,
                                           char why[PROBLEM_WHY_MAX])
{
    assert(greeting->owed > 0);
    enum reply_outcome outcome = reply_outcome(reply);
    bool is_auth = greeting->owed > 1U + greeting->asks_id;
    greeting->owed--;
    if (greeting->asks_id && greeting->owed == 0) {
        take_id(greeting, transport, reply);
        return GREETING_DONE;
    }
    if (outcome == OUTCOME_AGAIN || outcome == OUTCOME_STALE) {
        *err = ERR_STORE_UNAVAILABLE;
        return refuse_greeting(reply, false, why);
    }
    if ((is_auth && outcome != OUTCOME_ANSWER) || reply_wants_password(reply)) {
        *err = ERR_STORE_DENIED;
        return refuse_greeting(reply, is_auth, why);
    }
    return greeting->owed == 0 ? GREETING_DONE : GREETING_GOES_ON;
}
