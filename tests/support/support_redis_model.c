#include "support_redis_model.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* A field of a hash, a member of a sorted set, or the one value of a string. */
struct item {
    struct text name, value;
    int64_t score;
};

struct entry {
    struct text key;
    struct item *items;
    size_t count;
    int64_t expire_ms; /* 0: never */
    bool sorted;       /* a sorted set: its items are in order */
};

struct redis_model {
    struct entry *entries;
    size_t count;
    void (*changed)(void *user, struct text key);
    void *user;
};

static struct text own(struct text text)
{
    char *copy = xmalloc(text.length + 1);
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return (struct text){copy, text.length};
}

static void disown(struct text *text)
{
    free((char *)text->data);
    *text = (struct text){0};
}

/* --- entries --- */

static void free_entry(struct entry *entry)
{
    for (size_t i = 0; i < entry->count; i++) {
        disown(&entry->items[i].name);
        disown(&entry->items[i].value);
    }
    free(entry->items);
    disown(&entry->key);
}

static void remove_entry(struct redis_model *model, struct entry *entry)
{
    size_t at = (size_t)(entry - model->entries);
    free_entry(entry);
    model->count--;
    memmove(entry, entry + 1, (model->count - at) * sizeof(*entry));
}

/* NULL if the key is gone. */
static struct entry *find(struct redis_model *model, struct text key)
{
    for (size_t i = 0; i < model->count; i++) {
        struct entry *entry = &model->entries[i];
        if (!text_equal(entry->key, key))
            continue;
        if (entry->expire_ms == 0 || entry->expire_ms > clock_wall_ms())
            return entry;
        remove_entry(model, entry);
        return NULL;
    }
    return NULL;
}

static struct entry *find_or_add(struct redis_model *model, struct text key)
{
    struct entry *entry = find(model, key);
    if (entry)
        return entry;
    model->entries = xrealloc(model->entries, (model->count + 1) * sizeof(*entry));
    entry = &model->entries[model->count++];
    *entry = (struct entry){.key = own(key)};
    return entry;
}

static struct item *find_item(struct entry *entry, struct text name)
{
    for (size_t i = 0; entry && i < entry->count; i++)
        if (text_equal(entry->items[i].name, name))
            return &entry->items[i];
    return NULL;
}

static struct text value_of(struct entry *entry, struct text name)
{
    const struct item *item = find_item(entry, name);
    return item ? item->value : (struct text){0};
}

static struct item *add_item(struct entry *entry, size_t at, struct text name)
{
    entry->items = xrealloc(entry->items, (entry->count + 1) * sizeof(*entry->items));
    struct item *item = &entry->items[at];
    memmove(item + 1, item, (entry->count - at) * sizeof(*item));
    entry->count++;
    *item = (struct item){.name = own(name)};
    return item;
}

static void put(struct entry *entry, struct text name, struct text value)
{
    struct item *item = find_item(entry, name);
    if (!item)
        item = add_item(entry, entry->count, name);
    struct text before = item->value;
    item->value = own(value);
    disown(&before);
}

static bool drop(struct entry *entry, struct text name)
{
    struct item *item = find_item(entry, name);
    if (!item)
        return false;
    disown(&item->name);
    disown(&item->value);
    entry->count--;
    memmove(item, item + 1, (size_t)(entry->items + entry->count - item) * sizeof(*item));
    return true;
}

/* A key without fields or members is deleted. */
static void touch_key(struct redis_model *model, struct text key)
{
    struct entry *entry = find(model, key);
    if (entry && entry->count == 0)
        remove_entry(model, entry);
    if (model->changed)
        model->changed(model->user, key);
}

/* --- sorted sets --- */

static int compare_text(struct text a, struct text b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static void put_score(struct entry *entry, struct text member, int64_t score)
{
    size_t at = 0;
    entry->sorted = true;
    drop(entry, member);
    while (at < entry->count &&
           (entry->items[at].score < score ||
            (entry->items[at].score == score && compare_text(entry->items[at].name, member) < 0)))
        at++;
    add_item(entry, at, member)->score = score;
}

static int64_t number(struct text text)
{
    int64_t value = 0;
    if (text_equal(text, TEXT("+inf")))
        return INT64_MAX;
    if (text_equal(text, TEXT("-inf")))
        return INT64_MIN;
    ck_assert_msg(text_to_int(text, INT64_MIN, INT64_MAX, &value), "no number: %.*s",
                  (int)text.length, text.data);
    return value;
}

/* --- replies --- */

static void reply_text(struct buffer *out, struct text text)
{
    if (!text.data) {
        buffer_addf(out, "$-1\r\n");
        return;
    }
    buffer_addf(out, "$%zu\r\n", text.length);
    buffer_add_text(out, text);
    buffer_add_literal(out, "\r\n");
}

static void reply_int(struct buffer *out, int64_t value)
{
    buffer_addf(out, ":%" PRId64 "\r\n", value);
}

static void reply_number_text(struct buffer *out, int64_t value)
{
    char digits[24];
    reply_text(out,
               (struct text){digits, (size_t)snprintf(digits, sizeof(digits), "%" PRId64, value)});
}

static void reply_hash(struct buffer *out, const struct entry *entry)
{
    buffer_addf(out, "*%zu\r\n", entry ? 2 * entry->count : 0);
    for (size_t i = 0; entry && i < entry->count; i++) {
        reply_text(out, entry->items[i].name);
        reply_text(out, entry->items[i].value);
    }
}

/* --- scripts --- */

/* One call in flight: what the script gets, ARGV from 1 as in Lua. */
struct call {
    struct redis_model *model;
    struct text key;
    const struct text *argv; /* argv[0] is not there */
    size_t argc;
    struct buffer *out;
};

/* EXPIRY_LUA, with the fake clock as the server's. */
static int64_t expiry_of(struct text printed)
{
    struct text at = text_take(&printed, ' ');
    int64_t by_server = clock_wall_ms() + number(printed);
    return number(at) > by_server ? number(at) : by_server;
}

static void run_write(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    struct text found = value_of(entry, TEXT("!"));
    if (!text_equal(found.data ? found : TEXT("0"), call->argv[1])) {
        reply_hash(call->out, entry);
        return;
    }
    entry = find_or_add(call->model, call->key);
    size_t last = 4 + (size_t)number(call->argv[4]);
    put(entry, TEXT("!"), call->argv[2]);
    for (size_t i = 5; i <= last; i += 2)
        put(entry, call->argv[i], call->argv[i + 1]);
    for (size_t i = last + 1; i <= call->argc; i++)
        drop(entry, call->argv[i]);
    entry->expire_ms = text_equal(call->argv[3], TEXT("0")) ? 0 : expiry_of(call->argv[3]);
    touch_key(call->model, call->key);
    reply_int(call->out, 1);
}

static void run_epoch(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    int64_t before = 0, expire_ms = expiry_of(call->argv[2]);
    bool present = entry != NULL;
    if (present)
        (void)text_to_int(value_of(entry, TEXT("")), 0, INT64_MAX, &before);
    if (before >= INT64_C(1) << 48)
        before = 0;
    int64_t least = number(call->argv[1]), value = before + 1 > least ? before + 1 : least;
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, value);
    entry = find_or_add(call->model, call->key);
    put(entry, TEXT(""), (struct text){digits, (size_t)length});
    if (!present || (entry->expire_ms != 0 && expire_ms > entry->expire_ms))
        entry->expire_ms = expire_ms;
    touch_key(call->model, call->key);
    reply_int(call->out, value);
}

static void run_touch(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    if (!find_item(entry, call->argv[1])) {
        reply_int(call->out, 0);
        return;
    }
    put(entry, call->argv[2], call->argv[3]);
    if (entry->expire_ms != 0 && number(call->argv[4]) > entry->expire_ms)
        entry->expire_ms = number(call->argv[4]);
    touch_key(call->model, call->key);
    reply_int(call->out, 1);
}

static void run_tenant_write(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    struct text found = value_of(entry, TEXT(""));
    if (!text_equal(found.data ? found : TEXT(""), call->argv[1])) {
        buffer_add_literal(call->out, "*1\r\n");
        reply_text(call->out, found.data ? found : TEXT(""));
        return;
    }
    entry = find_or_add(call->model, call->key);
    put(entry, TEXT(""), call->argv[2]);
    entry->expire_ms = 0;
    touch_key(call->model, call->key);
    reply_int(call->out, 1);
}

static void run_offer(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    struct text found = value_of(entry, TEXT("r")), tries = value_of(entry, TEXT("n"));
    if (found.data) {
        buffer_add_literal(call->out, "*2\r\n");
        reply_text(call->out, tries.data ? tries : TEXT("0"));
        reply_text(call->out, found);
        return;
    }
    entry = find_or_add(call->model, call->key);
    put(entry, TEXT("r"), call->argv[1]);
    put(entry, TEXT("s"), call->argv[2]);
    put(entry, TEXT("n"), call->argv[3]);
    entry->expire_ms = expiry_of(call->argv[4]);
    touch_key(call->model, call->key);
    reply_int(call->out, 1);
}

static void run_take(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    struct text tries = value_of(entry, TEXT("n"));
    int64_t left = tries.data ? number(tries) : 0;
    if (left < 1 || !text_equal(value_of(entry, TEXT("s")), call->argv[1])) {
        reply_int(call->out, 0);
        return;
    }
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, left - 1);
    put(entry, TEXT("n"), (struct text){digits, (size_t)length});
    buffer_add_literal(call->out, "*2\r\n");
    reply_number_text(call->out, left - 1);
    reply_text(call->out, value_of(entry, TEXT("r")));
    touch_key(call->model, call->key);
}

static void run_index(const struct call *call)
{
    struct entry *entry = find_or_add(call->model, call->key);
    int64_t below = number(call->argv[1]), score = number(call->argv[3]);
    for (size_t i = entry->count; i-- > 0;)
        if (entry->items[i].score >= 0 && entry->items[i].score <= below)
            drop(entry, entry->items[i].name);
    bool marked = find_item(entry, TEXT("")) != NULL;
    const struct item *present = find_item(entry, call->argv[4]);
    bool grows = text_equal(call->argv[5], TEXT("gt"));
    if (!marked && !(grows && present && present->score >= score))
        put_score(entry, call->argv[4], score);
    if (entry->count > 0)
        entry->expire_ms = expiry_of(call->argv[2]);
    reply_int(call->out, marked ? -1 : (int64_t)entry->count);
    touch_key(call->model, call->key);
}

/* "HEX FIRST LAST"; an absent mark for anything else. */
static struct text read_mark(struct text value, struct text *first, struct text *last)
{
    struct text mark = text_take(&value, ' ');
    *first = text_take(&value, ' ');
    *last = text_take(&value, ' '); /* a node adds its format behind it */
    return first->length > 0 && last->length > 0 ? mark : (struct text){0};
}

static bool marks_differ(const struct call *call, struct entry *entry)
{
    struct text first, alive, last;
    bool named = read_mark(value_of(entry, TEXT("names")), &first, &alive).data != NULL;
    for (size_t i = 4; i <= call->argc; i += 2) {
        struct text mark = read_mark(value_of(entry, call->argv[i]), &first, &last);
        if (mark.data && !text_equal(mark, call->argv[i + 1]) &&
            (text_equal(call->argv[i], TEXT("names")) || !named ||
             number(alive) - number(last) <= 3600))
            return true;
    }
    return false;
}

/* Keeps the time of a node that reads an earlier record format, before it is overwritten. */
static void keep_reader(struct entry *entry, struct text format)
{
    struct text first, last, value = value_of(entry, TEXT("names"));
    int64_t reads = 1;
    if (!read_mark(value, &first, &last).data)
        return;
    for (int word = 0; word < 3; word++)
        text_take(&value, ' ');
    (void)text_to_int(text_take(&value, ' '), 1, 9, &reads);
    if (reads >= number(format))
        return;
    char field[] = {'r', 'e', 'a', 'd', 's', (char)('0' + reads)};
    SCOPED(buffer_free) struct buffer copy = {0};
    buffer_add_text(&copy, last);
    put(entry, (struct text){field, sizeof(field)}, buffer_text(&copy));
}

static void put_mark(struct entry *entry, struct text field, struct text digits, int64_t now_s,
                     struct text format)
{
    struct text first, last;
    struct text mark = read_mark(value_of(entry, field), &first, &last);
    int64_t first_s = mark.data && text_equal(mark, digits) ? number(first) : now_s;
    struct buffer value = {0};
    buffer_add_text(&value, digits);
    buffer_addf(&value, " %" PRId64 " %" PRId64, first_s, now_s);
    if (text_equal(field, TEXT("names")) && !text_equal(format, TEXT("1")))
        buffer_addf(&value, " %.*s", (int)format.length, format.data);
    put(entry, field, buffer_text(&value));
    buffer_free(&value);
}

static void run_marks(const struct call *call)
{
    struct entry *entry = find(call->model, call->key);
    if (!marks_differ(call, entry)) {
        entry = find_or_add(call->model, call->key);
        if (!find_item(entry, TEXT("store")))
            put(entry, TEXT("store"), call->argv[2]);
        keep_reader(entry, call->argv[3]);
        for (size_t i = 4; i <= call->argc; i += 2)
            put_mark(entry, call->argv[i], call->argv[i + 1], clock_wall_ms() / 1000,
                     call->argv[3]);
        touch_key(call->model, call->key);
    }
    reply_hash(call->out, find(call->model, call->key));
}

/* Each script is known by words that no other script has. */
static const struct {
    const char *name, *words;
    void (*run)(const struct call *call);
} script_rows[] = {
    {"write", "'!', ARGV[2], unpack", run_write},
    {"epoch", "'KEEPTTL'", run_epoch},
    {"touch", "'HEXISTS', KEYS[1], ARGV[1]", run_touch},
    {"tenant-write", "return {found} end", run_tenant_write},
    {"offer", "'r', ARGV[1], 's', ARGV[2]", run_offer},
    {"take", "left - 1", run_take},
    {"index", "'ZREMRANGEBYSCORE'", run_index},
    {"marks", "'^(%x+) (%d+) (%d+)'", run_marks},
};
enum { SCRIPT_ROWS = sizeof(script_rows) / sizeof(script_rows[0]) };

static size_t script_row(const struct store_script *script)
{
    size_t row = 0;
    while (row < SCRIPT_ROWS && !strstr(script->source, script_rows[row].words))
        row++;
    ck_assert_msg(row < SCRIPT_ROWS, "a script that the model does not know: %s", script->source);
    return row;
}

/* --- commands: ARGV[1] is what follows the key --- */

static void run_get(const struct call *call)
{
    reply_text(call->out, value_of(find(call->model, call->key), TEXT("")));
}

static void run_hgetall(const struct call *call)
{
    reply_hash(call->out, find(call->model, call->key));
}

static void run_hmget(const struct call *call)
{
    buffer_addf(call->out, "*%zu\r\n", call->argc);
    for (size_t i = 1; i <= call->argc; i++)
        reply_text(call->out, value_of(find(call->model, call->key), call->argv[i]));
}

static void run_remove(const struct call *call)
{
    int64_t removed = 0;
    for (size_t i = 1; i <= call->argc; i++)
        removed += drop(find(call->model, call->key), call->argv[i]);
    if (removed > 0)
        touch_key(call->model, call->key);
    reply_int(call->out, removed);
}

static void run_zadd(const struct call *call)
{
    struct entry *entry = find_or_add(call->model, call->key);
    bool added = !find_item(entry, call->argv[2]);
    put_score(entry, call->argv[2], number(call->argv[1]));
    touch_key(call->model, call->key);
    reply_int(call->out, added);
}

static void run_zcount(const struct call *call)
{
    const struct entry *entry = find(call->model, call->key);
    int64_t count = 0;
    for (size_t i = 0; entry && i < entry->count; i++)
        count += entry->items[i].score >= number(call->argv[1]) &&
                 entry->items[i].score <= number(call->argv[2]);
    reply_int(call->out, count);
}

/* By index, or BYSCORE with LIMIT 0 MOST; both WITHSCORES. */
static void run_zrange(const struct call *call)
{
    const struct entry *entry = find(call->model, call->key);
    bool by_score = call->argc > 3;
    int64_t low = number(call->argv[1]), high = number(call->argv[2]);
    size_t most = by_score ? (size_t)number(call->argv[6]) : SIZE_MAX, given = 0;
    struct buffer members = {0};
    for (size_t i = 0; entry && i < entry->count && given < most; i++) {
        int64_t place = by_score ? entry->items[i].score : (int64_t)i;
        if (place < low || place > high)
            continue;
        reply_text(&members, entry->items[i].name);
        reply_number_text(&members, entry->items[i].score);
        given++;
    }
    buffer_addf(call->out, "*%zu\r\n", 2 * given);
    buffer_add_text(call->out, buffer_text(&members));
    buffer_free(&members);
}

static const struct {
    const char *name;
    void (*run)(const struct call *call);
} command_rows[] = {
    {"GET", run_get},     {"HGETALL", run_hgetall}, {"HMGET", run_hmget},   {"HDEL", run_remove},
    {"ZREM", run_remove}, {"ZADD", run_zadd},       {"ZCOUNT", run_zcount}, {"ZRANGE", run_zrange},
};
enum { COMMAND_ROWS = sizeof(command_rows) / sizeof(command_rows[0]) };

static size_t command_row(struct text name)
{
    size_t row = 0;
    while (row < COMMAND_ROWS && !text_equal(name, text_of(command_rows[row].name)))
        row++;
    ck_assert_msg(row < COMMAND_ROWS, "a command that the model does not know: %.*s",
                  (int)name.length, name.data);
    return row;
}

const char *redis_model_name(const struct store_script *script, const struct text *arguments)
{
    return script ? script_rows[script_row(script)].name
                  : command_rows[command_row(arguments[0])].name;
}

void redis_model_run(struct redis_model *model, const struct store_script *script, struct text key,
                     const struct text *arguments, size_t count, struct buffer *reply)
{
    struct call call = {model, key, arguments - 1, count, reply};
    if (script) {
        script_rows[script_row(script)].run(&call);
        return;
    }
    call.argv = arguments + 1;
    call.argc = count - 2;
    command_rows[command_row(arguments[0])].run(&call);
}

/* --- by hand --- */

void redis_model_watch(struct redis_model *model, void (*changed)(void *user, struct text key),
                       void *user)
{
    model->changed = changed;
    model->user = user;
}

struct text redis_model_field(struct redis_model *model, struct text key, struct text field)
{
    return value_of(find(model, key), field);
}

bool redis_model_has(struct redis_model *model, struct text key)
{
    return find(model, key) != NULL;
}

int64_t redis_model_expiry(struct redis_model *model, struct text key)
{
    const struct entry *entry = find(model, key);
    return entry ? entry->expire_ms : 0;
}

void redis_model_set_field(struct redis_model *model, struct text key, struct text field,
                           struct text value)
{
    put(find_or_add(model, key), field, value);
    touch_key(model, key);
}

void redis_model_set(struct redis_model *model, struct text key, struct text value)
{
    redis_model_set_field(model, key, TEXT(""), value);
}

void redis_model_flush(struct redis_model *model)
{
    while (model->count > 0)
        remove_entry(model, &model->entries[model->count - 1]);
}

static void copy_entry(struct entry *to, const struct entry *from)
{
    *to = *from;
    to->key = own(from->key);
    to->items = xmalloc((from->count + 1) * sizeof(*to->items));
    for (size_t i = 0; i < from->count; i++) {
        to->items[i] = from->items[i];
        to->items[i].name = own(from->items[i].name);
        if (from->items[i].value.data)
            to->items[i].value = own(from->items[i].value);
    }
}

void redis_model_restore(struct redis_model *model, const struct redis_model *copy)
{
    redis_model_flush(model);
    model->entries = xrealloc(model->entries, (copy->count + 1) * sizeof(*model->entries));
    for (size_t i = 0; i < copy->count; i++)
        copy_entry(&model->entries[i], &copy->entries[i]);
    model->count = copy->count;
}

struct redis_model *redis_model_copy(const struct redis_model *model)
{
    struct redis_model *copy = redis_model_create();
    redis_model_restore(copy, model);
    return copy;
}

struct redis_model *redis_model_create(void)
{
    return xcalloc(1, sizeof(struct redis_model));
}

void redis_model_destroy(struct redis_model **model)
{
    struct redis_model *gone = *model;
    *model = NULL;
    if (!gone)
        return;
    redis_model_flush(gone);
    free(gone->entries);
    free(gone);
}
