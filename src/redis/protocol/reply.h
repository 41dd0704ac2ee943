/* Replies: the door to hiredis' parser, and what each error of Redis means to us.
 *
 * Replies are built in the reader's arena while their bytes arrive, without an allocation each.
 * They live until reply_reader_release(). */
#pragma once

#include "store.h"

struct redisReader;

struct store_reply {
    enum store_type type;
    bool is_error; /* a status that is one of Redis' errors */
    struct text text;
    int64_t integer;
    size_t count;
    const struct store_reply **elements;
};

/* Larger replies are refused and the connection is closed. */
#define REPLY_BYTES_MAX ((size_t)16 * 1024 * 1024)

struct reply_reader {
    struct redisReader *codec; /* NULL: not open */
    struct arena arena;
    size_t used; /* bytes of the arena since the last release */
};

/* Starts afresh, for a new connection. */
void reply_reader_open(struct reply_reader *reader);
/* Forgets everything, half a reply included. */
void reply_reader_close(struct reply_reader *reader);
/* False if the bytes are too many: the connection must be closed. */
bool reply_reader_feed(struct reply_reader *reader, const char *data, size_t length);

enum reply_progress { REPLY_READY, REPLY_INCOMPLETE, REPLY_BROKEN };
enum reply_progress reply_reader_next(struct reply_reader *reader, const struct store_reply **ret);
/* Frees all replies given out so far. Only between replies. */
void reply_reader_release(struct reply_reader *reader);

/* The next step after a reply. */
enum reply_outcome {
    OUTCOME_ANSWER,     /* no error: the caller's business */
    OUTCOME_MOVED,      /* the slot lives elsewhere */
    OUTCOME_ASK,        /* this once, elsewhere */
    OUTCOME_AGAIN,      /* passes: repeat after a pause */
    OUTCOME_STALE,      /* passes, or our map is old: fetch it, repeat after a pause */
    OUTCOME_NOSCRIPT,   /* send the source */
    OUTCOME_DENIED,     /* our credentials */
    OUTCOME_REFUSED,    /* the server takes no writes */
    OUTCOME_UNFIT,      /* the server is of another kind than redis.mode says */
    OUTCOME_UNEXPECTED, /* an error we do not know */
};
enum reply_outcome reply_outcome(const struct store_reply *reply);
/* True for the errors of a server that cannot serve any command. */
bool reply_is_failure(const struct store_reply *reply);
/* True if the server wants a password, or does not serve our address. */
bool reply_wants_password(const struct store_reply *reply);
/* The server's words for an error, for log and /readyz: printable ASCII, without our arguments,
 * which some errors quote. NUL-terminated, cut to `size`. Returns out. */
const char *reply_words(const struct store_reply *reply, char *out, size_t size);
/* The address in a MOVED or ASK error; absent if it has none. */
struct text reply_redirect_address(const struct store_reply *reply);
