/* The kinds of alerts and their texts. */
#include "alert.h"

#include <assert.h>
#include <string.h>

#include "crypto.h"
#include "json.h"
#include "services/audit/audit_format.h"

enum { ALERT_TEXT_MAX = 512, TEXTS = 6 };

enum subject { OF_USER, OF_ACTOR, OF_ADDRESS, OF_TENANT, OF_NODE };

static const struct kind {
    const char *name;
    enum subject subject;
    const char *detail;
} kinds[ALERT_KINDS] = {
    [ALERT_NEW_LOCATION] = {"new_location", OF_USER,
                            "A login came from a place where the user was never seen"},
    [ALERT_REFRESH_REUSE] = {"refresh_reuse", OF_USER,
                             "A used refresh token came back; its session was ended"},
    [ALERT_REFRESH_REPEATED] =
        {"refresh_repeated", OF_USER,
         "A refresh token that was just used came again from another network or device"},
    [ALERT_FORCED_LOGOUTS] = {"forced_logouts", OF_ACTOR,
                              "One operator ended the sessions of many users within a minute"},
    [ALERT_KEY_GUESSING] = {"key_guessing", OF_ADDRESS,
                            "Many wrong keys or forged tokens came from one address within a "
                            "minute"},
    [ALERT_TENANT_RATE] = {"tenant_rate", OF_TENANT, "A tenant is over its rate"},
    [ALERT_TENANT_QUOTA] = {"tenant_quota", OF_TENANT, "A tenant is at its quota"},
    [ALERT_AUDIT_SPACE] = {"audit_space", OF_NODE, "The disk of the audit file is nearly full"},
    [ALERT_AUDIT_UNAUTHENTICATED] =
        {"audit_strangers", OF_NODE,
         "More calls without a genuine credential than the audit file takes "
         "lines of; the others are counted"},
    [ALERT_CLOCK_JUMP] = {"clock_jump", OF_NODE, "A clock jumped"},
};

/* The texts of an alert, by name. */
static const struct member {
    const char *name;
    size_t offset;
} members[TEXTS] = {
    {"tenant", offsetof(struct alert, tenant)},
    {"user_id", offsetof(struct alert, user_id)},
    {"session_id", offsetof(struct alert, session_id)},
    {"actor", offsetof(struct alert, actor)},
    {"address", offsetof(struct alert, address)},
    {"detail", offsetof(struct alert, detail)},
};

static struct text *text_at(struct alert *alert, size_t i)
{
    return (struct text *)(void *)((char *)alert + members[i].offset);
}

static struct text text_in(const struct alert *alert, size_t i)
{
    struct text text;
    memcpy(&text, (const char *)alert + members[i].offset, sizeof(text));
    return text;
}

/* --- in memory --- */

struct piece {
    enum alert_kind kind;
    int64_t count, wall_ms;
    uint16_t lengths[TEXTS];
};

size_t alert_pack(struct buffer *out, const struct raised_alert *raised)
{
    const struct alert *alert = &raised->alert;
    struct piece piece = {alert->kind, alert->count, raised->wall_ms, {0}};
    size_t length = sizeof(piece);
    assert(alert->kind < ALERT_KINDS && alert->count > 0);
    for (size_t i = 0; i < TEXTS; i++) {
        size_t whole = text_in(alert, i).length;
        piece.lengths[i] = (uint16_t)(whole < ALERT_TEXT_MAX ? whole : ALERT_TEXT_MAX);
        length += piece.lengths[i];
    }
    buffer_add(out, &piece, sizeof(piece));
    for (size_t i = 0; i < TEXTS; i++)
        buffer_add(out, text_in(alert, i).data, piece.lengths[i]);
    return length;
}

size_t alert_unpack(const char *data, struct raised_alert *ret)
{
    struct piece piece;
    memcpy(&piece, data, sizeof(piece));
    size_t length = sizeof(piece);
    *ret = (struct raised_alert){.alert = {.kind = piece.kind, .count = piece.count},
                                 .wall_ms = piece.wall_ms};
    for (size_t i = 0; i < TEXTS; i++) {
        if (piece.lengths[i] > 0)
            *text_at(&ret->alert, i) = (struct text){data + length, piece.lengths[i]};
        length += piece.lengths[i];
    }
    return length;
}

size_t alert_subject(const struct alert *alert, struct text parts[ALERT_SUBJECT_PARTS])
{
    enum subject subject = kinds[alert->kind].subject;
    parts[0] = subject == OF_ADDRESS ? alert->address : alert->tenant;
    parts[1] = subject == OF_USER ? alert->user_id : alert->actor;
    return subject == OF_NODE ? 0 : subject == OF_USER || subject == OF_ACTOR ? 2 : 1;
}

/* --- for the receiver and the audit --- */

static struct text detail_or_default(const struct alert *alert)
{
    return alert->detail.length > 0 ? alert->detail : text_of(kinds[alert->kind].detail);
}

void alert_make_id(char out[ALERT_ID])
{
    static const char prefix[] = "alert_";
    uint8_t random[16];
    crypto_random(random, sizeof(random));
    memcpy(out, prefix, sizeof(prefix) - 1);
    text_to_hex(out + sizeof(prefix) - 1, random, sizeof(random));
}

static void add_data(struct json_writer *writer, const struct alert *alert)
{
    for (size_t i = 0; i < TEXTS; i++) {
        struct text text = text_in(alert, i);
        if (members[i].offset == offsetof(struct alert, detail))
            text = detail_or_default(alert);
        if (text.length > 0)
            json_member_string(writer, members[i].name, text);
    }
    json_member_int(writer, "count", alert->count);
}

void alert_print(struct buffer *out, const struct raised_alert *raised, struct text id,
                 struct text node, int64_t lost)
{
    struct json_writer writer = {.out = out};
    const struct alert *alert = &raised->alert;
    buffer_add_literal(out, "{\"type\":\"sessiond.alert.");
    buffer_add_text(out, text_of(kinds[alert->kind].name));
    buffer_add_literal(out, "\",\"timestamp\":\"");
    audit_format_time(out, raised->wall_ms);
    buffer_add_literal(out, "\",\"data\":");
    json_open_object(&writer);
    json_member_string(&writer, "id", id);
    json_member_string(&writer, "kind", text_of(kinds[alert->kind].name));
    json_member_string(&writer, "node", node);
    add_data(&writer, alert);
    if (lost > 0)
        json_member_int(&writer, "lost_before", lost);
    json_close_object(&writer);
    buffer_add_char(out, '}');
}

void alert_record(struct buffer *line, const struct raised_alert *raised, struct text id)
{
    const struct alert *alert = &raised->alert;
    const struct audit_record record = {.event = AUDIT_ALERT,
                                        .wall_ms = raised->wall_ms,
                                        .tenant = alert->tenant,
                                        .user_id = alert->user_id,
                                        .session_id = alert->session_id,
                                        .actor = alert->actor,
                                        .source_ip = alert->address};
    const struct audit_rule rule = {.name = text_of(kinds[alert->kind].name),
                                    .id = id,
                                    .detail = detail_or_default(alert),
                                    .count = alert->count};
    audit_format_alert(line, &record, &rule);
}
