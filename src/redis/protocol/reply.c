/* hiredis' parser with replies of our own, and the table of Redis' errors. */
#include "reply.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <string.h>

#include "log.h"

/* The codec drops an empty input buffer with more spare room than this. */
#define INPUT_BUFFER_KEPT ((size_t)256 * 1024)

/* --- building replies for the codec --- */

/* NULL, which the codec reports as an error, for more than a reply may take. */
static void *take_element(const redisReadTask *task, size_t size)
{
    struct reply_reader *reader = task->privdata;
    if (size > REPLY_BYTES_MAX - reader->used)
        return NULL;
    reader->used += size;
    return arena_zalloc(&reader->arena, size);
}

static struct store_reply *add_reply(const redisReadTask *task, enum store_type type)
{
    struct store_reply *reply = take_element(task, sizeof(*reply));
    if (!reply)
        return NULL;
    reply->type = type;
    if (task->parent) {
        struct store_reply *parent = task->parent->obj;
        parent->elements[task->idx] = reply;
    }
    return reply;
}

static void *create_string(const redisReadTask *task, char *data, size_t length)
{
    struct store_reply *reply =
        add_reply(task, task->type == REDIS_REPLY_STRING ? STORE_STRING : STORE_STATUS);
    char *copy = reply ? take_element(task, length + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, data, length);
    reply->text = (struct text){copy, length};
    reply->is_error = task->type == REDIS_REPLY_ERROR;
    return reply;
}

static void *create_array(const redisReadTask *task, int elements)
{
    struct store_reply *reply = add_reply(task, STORE_ARRAY);
    if (!reply || elements < 0)
        return NULL;
    reply->elements = take_element(task, (size_t)elements * sizeof(struct store_reply *));
    if (!reply->elements)
        return NULL;
    reply->count = (size_t)elements;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct store_reply *reply = add_reply(task, STORE_INTEGER);
    if (reply)
        reply->integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    return add_reply(task, STORE_NIL);
}

/* Replies go with the arena. */
static void free_nothing(void *reply)
{
    (void)reply;
}

static redisReplyObjectFunctions builders = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_nothing,
};

/* --- reader --- */

void reply_reader_open(struct reply_reader *reader)
{
    reply_reader_close(reader);
    reader->codec = redisReaderCreateWithFunctions(&builders);
    assert(reader->codec);
    reader->codec->maxbuf = INPUT_BUFFER_KEPT;
    reader->codec->privdata = reader;
}

void reply_reader_close(struct reply_reader *reader)
{
    if (reader->codec) {
        redisReaderFree(reader->codec);
        reader->codec = NULL;
    }
    arena_free(&reader->arena);
    reader->used = 0;
}

bool reply_reader_feed(struct reply_reader *reader, const char *data, size_t length)
{
    if (redisReaderFeed(reader->codec, data, length) != REDIS_OK)
        return false;
    return reader->codec->len - reader->codec->pos <= REPLY_BYTES_MAX;
}

enum reply_progress reply_reader_next(struct reply_reader *reader, const struct store_reply **ret)
{
    void *reply = NULL;
    if (redisReaderGetReply(reader->codec, &reply) != REDIS_OK)
        return REPLY_BROKEN;
    if (!reply)
        return REPLY_INCOMPLETE;
    *ret = reply;
    return REPLY_READY;
}

void reply_reader_release(struct reply_reader *reader)
{
    arena_reset(&reader->arena);
    reader->used = 0;
}

/* --- what a reply holds --- */

enum store_type store_reply_type(const struct store_reply *reply)
{
    return reply->type;
}

struct text store_reply_text(const struct store_reply *reply)
{
    return reply->text;
}

bool store_reply_int(const struct store_reply *reply, int64_t minimum, int64_t maximum,
                     int64_t *ret)
{
    if (reply->type != STORE_INTEGER)
        return reply->type == STORE_STRING && text_to_int(reply->text, minimum, maximum, ret);
    if (reply->integer < minimum || reply->integer > maximum)
        return false;
    *ret = reply->integer;
    return true;
}

size_t store_reply_count(const struct store_reply *reply)
{
    return reply->count;
}

const struct store_reply *store_reply_element(const struct store_reply *reply, size_t index)
{
    return index < reply->count ? reply->elements[index] : NULL;
}

/* --- what an error means --- */

struct error_row {
    struct text prefix; /* whole words at the start of the error */
    enum reply_outcome outcome;
    bool failure; /* the server's, not the call's */
};

#define ERROR_ROW(prefix, ...)                    \
    {                                             \
        {prefix, sizeof(prefix) - 1}, __VA_ARGS__ \
    }
static const struct error_row error_rows[] = {
    ERROR_ROW("MOVED", OUTCOME_MOVED, false),
    ERROR_ROW("ASK", OUTCOME_ASK, false),
    ERROR_ROW("TRYAGAIN", OUTCOME_AGAIN, false),
    ERROR_ROW("LOADING", OUTCOME_AGAIN, true),
    ERROR_ROW("BUSY", OUTCOME_AGAIN, true),
    ERROR_ROW("ERR max number of clients reached", OUTCOME_AGAIN, true),
    ERROR_ROW("CLUSTERDOWN", OUTCOME_STALE, true),
    ERROR_ROW("MASTERDOWN", OUTCOME_STALE, true),
    ERROR_ROW("READONLY", OUTCOME_STALE, false),
    ERROR_ROW("NOSCRIPT", OUTCOME_NOSCRIPT, false),
    ERROR_ROW("NOAUTH", OUTCOME_DENIED, false),
    ERROR_ROW("WRONGPASS", OUTCOME_DENIED, false),
    ERROR_ROW("NOPERM", OUTCOME_DENIED, false),
    ERROR_ROW("DENIED", OUTCOME_DENIED, false),
    ERROR_ROW("ERR This instance has cluster support disabled", OUTCOME_UNFIT, false),
    ERROR_ROW("OOM", OUTCOME_REFUSED, false),
    ERROR_ROW("MISCONF", OUTCOME_REFUSED, false),
    ERROR_ROW("NOREPLICAS", OUTCOME_REFUSED, false),
};

static bool begins_with_words(struct text text, struct text words)
{
    if (text.length < words.length || memcmp(text.data, words.data, words.length) != 0)
        return false;
    return text.length == words.length || text.data[words.length] == ' ';
}

/* NULL for an error that is in no row. */
static const struct error_row *find_error_row(const struct store_reply *reply)
{
    for (size_t i = 0; i < sizeof(error_rows) / sizeof(error_rows[0]); i++)
        if (begins_with_words(reply->text, error_rows[i].prefix))
            return &error_rows[i];
    return NULL;
}

enum reply_outcome reply_outcome(const struct store_reply *reply)
{
    if (!reply->is_error)
        return OUTCOME_ANSWER;
    const struct error_row *row = find_error_row(reply);
    return row ? row->outcome : OUTCOME_UNEXPECTED;
}

bool reply_is_failure(const struct store_reply *reply)
{
    const struct error_row *row = reply->is_error ? find_error_row(reply) : NULL;
    return row && row->failure;
}

bool reply_wants_password(const struct store_reply *reply)
{
    return reply->is_error && (begins_with_words(reply->text, TEXT("NOAUTH")) ||
                               begins_with_words(reply->text, TEXT("DENIED")));
}

/* "ERR unknown command 'x', with args beginning with: ..." quotes what was sent. */
const char *reply_words(const struct store_reply *reply, char *out, size_t size)
{
    static const char quoting[] = ", with args beginning";
    struct text words = reply->text;
    const char *quote = memmem(words.data, words.length, quoting, sizeof(quoting) - 1);
    if (quote)
        words.length = (size_t)(quote - words.data);
    return log_quote(out, size, words);
}

/* "MOVED 3999 127.0.0.1:6381": what follows the second blank. */
struct text reply_redirect_address(const struct store_reply *reply)
{
    struct text rest = reply->text;
    for (int word = 0; word < 2; word++) {
        const char *blank = rest.length ? memchr(rest.data, ' ', rest.length) : NULL;
        if (!blank)
            return (struct text){NULL, 0};
        rest.length -= (size_t)(blank + 1 - rest.data);
        rest.data = blank + 1;
    }
    return rest;
}
