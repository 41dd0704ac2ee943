/* The hash's format, its script, and the judgement of marks. */
#include "key_marks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "record.h"

enum {
    RETIRED_S = 3600, /* a number without confirmation for so long may be given to another key */
    RECENT_S = 900
};

/* KEYS[1] the hash. ARGV: seconds of the caller's clock, in case the user may not ask for TIME,
 * digits of the store, the caller's record format, then fields and marks. Writes nothing if one
 * differs. A node that reads earlier formats only has left its own behind "names", or none. */
static struct store_script write_script = {
    .source = "local time = redis.pcall('TIME')\n"
              "local now = time.err and ARGV[1] or time[1]\n"
              "local function read(field)\n"
              "  return string.match(redis.call('HGET', KEYS[1], field) or '',\n"
              "                      '^(%x+) (%d+) (%d+)')\n"
              "end\n"
              "local _, _, alive = read('names')\n"
              "local known = {}\n"
              "for i = 4, #ARGV, 2 do\n"
              "  local mark, first, last = read(ARGV[i])\n"
              "  if mark == ARGV[i + 1] then known[i] = first\n"
              "  elseif mark and (ARGV[i] == 'names' or not alive\n"
              "                   or alive - last <= 3600) then\n"
              "    return redis.call('HGETALL', KEYS[1])\n"
              "  end\n"
              "end\n"
              "if redis.call('HEXISTS', KEYS[1], 'store') == 0 then\n"
              "  redis.call('HSET', KEYS[1], 'store', ARGV[2])\n"
              "end\n"
              "local before = redis.call('HGET', KEYS[1], 'names') or ''\n"
              "local reads = tonumber(string.match(before, '^%x+ %d+ %d+ (%d+)') or '1')\n"
              "if alive and reads < tonumber(ARGV[3]) then\n"
              "  redis.call('HSET', KEYS[1], 'reads' .. reads, alive)\n"
              "end\n"
              "for i = 4, #ARGV, 2 do\n"
              "  local own = (ARGV[i] == 'names' and ARGV[3] ~= '1') and ' ' .. ARGV[3] or ''\n"
              "  redis.call('HSET', KEYS[1], ARGV[i],\n"
              "             ARGV[i + 1] .. ' ' .. (known[i] or now) .. ' ' .. now .. own)\n"
              "end\n"
              "return redis.call('HGETALL', KEYS[1])\n",
};
_Static_assert(RETIRED_S == 3600, "the script says the same");

void key_marks_prepare(void)
{
    store_script_prepare(&write_script);
}

/* --- reading --- */

bool key_marks_read_one(struct text value, struct key_mark *ret)
{
    *ret = (struct key_mark){0};
    struct text digits = text_take(&value, ' '), first = text_take(&value, ' ');
    struct text last = text_take(&value, ' ');
    struct key_mark mark = {.present = true};
    if (digits.length != 2 * (size_t)KEY_MARK ||
        !text_from_hex(mark.mark, sizeof(mark.mark), digits) ||
        !text_to_int(first, 0, STORED_S_MAX, &mark.first_s) ||
        !text_to_int(last, 0, STORED_S_MAX, &mark.last_s))
        return false;
    *ret = mark;
    return true;
}

/* Index of a field's key; KEY_MARKS for an unknown field. */
static size_t mark_index(struct text field)
{
    int64_t id;
    if (text_equal(field, TEXT("names")))
        return 0;
    return text_to_int(field, 1, KEY_ID_MAX, &id) ? (size_t)id : KEY_MARKS;
}

/* The format behind the two times of the names' mark. Earlier versions write none. */
static unsigned read_format(struct text value)
{
    int64_t format = RECORD_FORMAT_LEAST;
    for (unsigned words = 0; words < 3; words++)
        text_take(&value, ' ');
    struct text digits = text_take(&value, ' ');
    (void)text_to_int(digits, RECORD_FORMAT_LEAST, UINT8_MAX, &format);
    return (unsigned)format;
}

/* "reads1" and so on, up to the format before this version's. */
static void read_last_reader(struct text field, struct text value, struct key_marks *ret)
{
    static const char name[] = "reads";
    const size_t length = sizeof(name) - 1;
    int64_t format;
    if (field.length <= length || memcmp(field.data, name, length) != 0 ||
        !text_to_int((struct text){field.data + length, field.length - length}, RECORD_FORMAT_LEAST,
                     KEY_MARKS_FORMATS - 1, &format))
        return;
    (void)text_to_int(value, 0, STORED_S_MAX, &ret->read_s[format]);
}

static void read_store(struct text value, char ret[KEY_MARKS_STORE + 1])
{
    uint8_t bytes[KEY_MARKS_STORE / 2];
    if (text_from_hex(bytes, sizeof(bytes), value))
        text_to_hex(ret, bytes, sizeof(bytes));
}

bool key_marks_read(const struct store_reply *reply, struct key_marks *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (store_reply_type(reply) != STORE_ARRAY || store_reply_count(reply) % 2 != 0)
        return false;
    for (size_t i = 0; i + 1 < store_reply_count(reply); i += 2) {
        struct text field = store_reply_text(store_reply_element(reply, i));
        struct text value = store_reply_text(store_reply_element(reply, i + 1));
        size_t place = mark_index(field);
        if (place < KEY_MARKS)
            key_marks_read_one(value, &ret->of[place]);
        else if (text_equal(field, TEXT("store")))
            read_store(value, ret->store);
        else
            read_last_reader(field, value, ret);
        if (place == 0)
            ret->format = read_format(value);
    }
    return true;
}

unsigned key_marks_format(const struct key_marks *marks)
{
    unsigned format = RECORD_FORMAT_MAX;
    if (!marks->of[0].present)
        return RECORD_FORMAT_LEAST;
    if (marks->format < format)
        format = marks->format;
    for (unsigned earlier = RECORD_FORMAT_LEAST; earlier < format; earlier++)
        if (marks->read_s[earlier] > 0 && marks->of[0].last_s - marks->read_s[earlier] <= RECENT_S)
            return earlier;
    return format;
}

/* --- judging --- */

/* Seconds of the earliest mark of the ring's numbered keys. */
static int64_t earliest_mark_s(const struct key_marks *marks, const struct keyring *keyring)
{
    int64_t first_s = INT64_MAX;
    for (unsigned id = 1; id < KEY_MARKS; id++)
        if (keyring_mark(keyring, (uint8_t)id) && marks->of[id].present &&
            marks->of[id].first_s < first_s)
            first_s = marks->of[id].first_s;
    return first_s;
}

/* A key older than all of the ring was dropped, so it is not missing. Marks written at once are
 * ordered by number. */
static bool is_missing(const struct key_marks *marks, const struct keyring *keyring, unsigned id,
                       int64_t oldest_s)
{
    const struct key_mark *mark = &marks->of[id];
    bool newer =
        mark->first_s > oldest_s || (mark->first_s == oldest_s && id > keyring_newest(keyring));
    return mark->present && newer && marks->of[0].last_s - mark->last_s <= RECENT_S;
}

void key_marks_judge(const struct key_marks *marks, const struct keyring *keyring,
                     struct key_verdict *ret)
{
    *ret = (struct key_verdict){0};
    int64_t oldest_s = earliest_mark_s(marks, keyring);
    for (unsigned id = 0; id < KEY_MARKS; id++) {
        const uint8_t *own = keyring_mark(keyring, (uint8_t)id);
        const struct key_mark *mark = &marks->of[id];
        uint64_t bit = UINT64_C(1) << id;
        if (!own)
            ret->missing |= is_missing(marks, keyring, id, oldest_s) ? bit : 0;
        else if (mark->present && memcmp(own, mark->mark, KEY_MARK) == 0)
            continue;
        else if (mark->present && (id == 0 || marks->of[0].last_s - mark->last_s <= RETIRED_S))
            ret->foreign |= bit;
        else
            ret->unmarked |= bit;
    }
}

/* --- writing --- */

static void add_mark(struct key_marks_write *write, size_t *count, unsigned id, const uint8_t *mark)
{
    char *field = write->fields[id];
    int length = id == 0 ? snprintf(field, sizeof(write->fields[id]), "names")
                         : snprintf(field, sizeof(write->fields[id]), "%u", id);
    text_to_hex(write->marks[id], mark, KEY_MARK);
    write->arguments[(*count)++] = (struct text){field, (size_t)length};
    write->arguments[(*count)++] = (struct text){write->marks[id], sizeof(write->marks[id])};
}

static void choose_store(const char *before, char ret[KEY_MARKS_STORE + 1])
{
    uint8_t bytes[KEY_MARKS_STORE / 2];
    crypto_random(bytes, sizeof(bytes));
    text_to_hex(ret, bytes, sizeof(bytes));
    if (before[0])
        memcpy(ret, before, KEY_MARKS_STORE);
    ret[KEY_MARKS_STORE] = '\0';
}

void key_marks_write(const struct keyring *keyring, int64_t now_s, const char *store,
                     struct key_marks_write *ret, struct store_call *call)
{
    int length = snprintf(ret->now, sizeof(ret->now), "%" PRId64, now_s);
    size_t count = 0;
    ret->arguments[count++] = (struct text){ret->now, (size_t)length};
    choose_store(store, ret->store);
    ret->arguments[count++] = (struct text){ret->store, KEY_MARKS_STORE};
    length = snprintf(ret->format, sizeof(ret->format), "%d", RECORD_FORMAT_MAX);
    ret->arguments[count++] = (struct text){ret->format, (size_t)length};
    for (unsigned id = 0; id < KEY_MARKS; id++) {
        const uint8_t *mark = keyring_mark(keyring, (uint8_t)id);
        if (mark)
            add_mark(ret, &count, id, mark);
    }
    call->script = &write_script;
    call->arguments = ret->arguments;
    call->argument_count = count;
}
