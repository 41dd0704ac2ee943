/* The format of an audit line. It runs once a request: no printf, no JSON tree. Members that depend
 * on the event alone are one literal, built by the preprocessor; the date changes once a second;
 * texts go through json_escape(), which copies runs of plain bytes whole. */
#include "audit_format.h"

#include <assert.h>

#include "address.h"
#include "clock.h"
#include "json.h"

enum { TEXT_MAX = 512 };

/* The members that follow log.level, up to event.outcome, which alerts do not have. */
#define HEAD(kind, action, category, type, message)                                         \
    ",\"message\":\"" message "\",\"ecs.version\":\"8.11.0\",\"service.name\":\"sessiond\"" \
    ",\"event.kind\":\"" kind "\",\"event.category\":[" category "],\"event.type\":[" type  \
    "],\"event.action\":\"" action "\""
#define OUTCOME(outcome) ",\"event.outcome\":\"" outcome "\""

struct event_row {
    struct text heads[2]; /* success, failure */
    bool durable;
};

static const struct event_row event_rows[AUDIT_EVENT_COUNT] = {
#define TEXT_INIT(literal)             \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }
#define AUDIT_EVENT(id, action, category, type, done, failed, durable)                             \
    [AUDIT_##id] = {{TEXT_INIT(HEAD("event", action, category, type, done) OUTCOME("success")),    \
                     TEXT_INIT(HEAD("event", action, category, type, failed) OUTCOME("failure"))}, \
                    durable},
#define AUDIT_ALERT(id, action, category, type)                                  \
    [AUDIT_##id] = {{TEXT_INIT(HEAD("alert", action, category, type, "alert")),  \
                     TEXT_INIT(HEAD("alert", action, category, type, "alert"))}, \
                    false},
#include "tbl/audit_events.h"
#undef AUDIT_EVENT
};

bool audit_event_durable(enum audit_event event)
{
    assert(event < AUDIT_EVENT_COUNT);
    return event_rows[event].durable;
}

/* --- time --- */

void audit_format_time(struct buffer *out, int64_t wall_ms)
{
    char text[CLOCK_TEXT];
    clock_text(text, wall_ms);
    buffer_add(out, text, sizeof(text));
}

static void add_timestamp(struct buffer *line, int64_t wall_ms)
{
    buffer_add_literal(line, AUDIT_TIME_MEMBER);
    audit_format_time(line, wall_ms);
    buffer_add_char(line, '"');
}

/* --- members --- */

static void add_string(struct buffer *line, struct text value)
{
    buffer_add_char(line, '"');
    json_escape(line, text_cut(value, TEXT_MAX));
    buffer_add_char(line, '"');
}

static void add_text_member(struct buffer *line, struct text name, struct text value)
{
    if (value.length > 0) {
        buffer_add_text(line, name);
        json_escape(line, text_cut(value, TEXT_MAX));
        buffer_add_char(line, '"');
    }
}

/* Adds a text member unless the text is absent. */
#define ADD(line, name, value) add_text_member((line), TEXT(",\"" name "\":\""), (value))
#define ADD_NUMBER(line, name, value)                 \
    do {                                              \
        buffer_add_literal((line), ",\"" name "\":"); \
        buffer_add_int((line), (value));              \
    } while (0)

/* Elasticsearch refuses a whole line if a field of type ip holds anything else. */
static bool is_ip_address(struct text text)
{
    struct ip_address address;
    return ip_parse(text, &address);
}

static void add_addresses(struct buffer *line, const struct audit_record *record)
{
    if (record->source_ip.length > 0 && is_ip_address(record->source_ip))
        ADD(line, "source.ip", record->source_ip);
    else
        ADD(line, "source.address", record->source_ip);
    if (!text_equal(record->peer_ip, record->source_ip))
        ADD(line, "client.address", record->peer_ip);
}

static void add_ids(struct buffer *line, struct text name, const struct text *ids, size_t count)
{
    if (count == 0)
        return;
    buffer_add_text(line, name);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_add_char(line, ',');
        add_string(line, ids[i]);
    }
    buffer_add_char(line, ']');
}

static void add_batch(struct buffer *line, const struct audit_record *record)
{
    if (record->batch_tokens == 0)
        return;
    int64_t undecided = record->batch_tokens - record->batch_active - record->batch_inactive;
    ADD_NUMBER(line, "sessiond.tokens", record->batch_tokens);
    ADD_NUMBER(line, "sessiond.active", record->batch_active);
    ADD_NUMBER(line, "sessiond.inactive", record->batch_inactive);
    ADD_NUMBER(line, "sessiond.undecided", undecided);
    add_ids(line, TEXT(",\"sessiond.sessions\":["), record->sessions, record->session_count);
}

static void add_changes(struct buffer *line, struct text changes)
{
    if (changes.length == 0)
        return;
    buffer_add_literal(line, ",\"sessiond.changes\":[");
    buffer_add_text(line, changes);
    buffer_add_char(line, ']');
}

static struct text level_of(bool failed, unsigned status)
{
    return !failed         ? TEXT(",\"log.level\":\"info\"")
           : status >= 500 ? TEXT(",\"log.level\":\"error\"")
                           : TEXT(",\"log.level\":\"warn\"");
}

static void add_head(struct buffer *line, enum audit_event event, int64_t wall_ms, bool failed,
                     unsigned status)
{
    assert(event < AUDIT_EVENT_COUNT);
    add_timestamp(line, wall_ms);
    buffer_add_text(line, level_of(failed, status));
    buffer_add_text(line, event_rows[event].heads[failed]);
}

static void add_request(struct buffer *line, const struct audit_record *record)
{
    ADD(line, "event.reason", record->reason);
    ADD_NUMBER(line, "event.duration", record->duration_ns);
    ADD(line, "http.request.id", record->request_id);
    ADD(line, "http.request.method", record->method);
    ADD_NUMBER(line, "http.response.status_code", record->status);
    ADD(line, "url.path", record->path);
    ADD(line, "sessiond.original_method", record->original_method);
    ADD(line, "url.domain", record->original_host);
    ADD(line, "sessiond.original_path", record->original_path);
    ADD(line, "trace.id", record->trace_id);
    ADD(line, "span.id", record->span_id);
}

static void add_subject(struct buffer *line, const struct audit_record *record)
{
    ADD(line, "organization.id", record->tenant);
    ADD(line, "user.id", record->user_id);
    add_addresses(line, record);
    ADD(line, "sessiond.unreadable_ip", record->unreadable_ip);
    ADD(line, "user_agent.original", record->user_agent);
    ADD(line, "device.id", record->device_id);
    ADD(line, "sessiond.device_type", record->device_type);
    ADD(line, "sessiond.session_id", record->session_id);
    ADD(line, "sessiond.service_key", record->service_key);
    ADD(line, "sessiond.operator", record->operator_name);
    ADD(line, "sessiond.actor", record->actor);
    ADD(line, "sessiond.durability", record->durability);
    ADD(line, "sessiond.binding", record->binding);
    if (record->repeated)
        buffer_add_literal(line, ",\"sessiond.repeated\":true");
    if (record->stale)
        ADD_NUMBER(line, "sessiond.stale_for", record->stale_for_s);
}

void audit_format(struct buffer *line, const struct audit_record *record)
{
    add_head(line, record->event, record->wall_ms, record->failed, record->status);
    add_request(line, record);
    add_subject(line, record);
    add_ids(line, TEXT(",\"sessiond.ended\":["), record->ended, record->ended_count);
    add_batch(line, record);
    add_changes(line, record->changes);
}

void audit_format_alert(struct buffer *line, const struct audit_record *record,
                        const struct audit_rule *rule)
{
    add_timestamp(line, record->wall_ms);
    buffer_add_literal(line, ",\"log.level\":\"warn\"");
    buffer_add_text(line, event_rows[record->event].heads[0]);
    ADD(line, "event.reason", rule->detail);
    ADD(line, "event.id", rule->id);
    ADD(line, "rule.name", rule->name);
    ADD_NUMBER(line, "sessiond.count", rule->count);
    add_subject(line, record);
}

#define ADD_TIME(line, name, wall_ms)                   \
    do {                                                \
        buffer_add_literal((line), ",\"" name "\":\""); \
        audit_format_time((line), (wall_ms));           \
        buffer_add_char((line), '"');                   \
    } while (0)

void audit_format_notice(struct buffer *line, const struct audit_notice *notice)
{
    add_head(line, notice->event, notice->wall_ms, notice->failed, 0);
    ADD(line, "event.reason", notice->reason);
    ADD(line, "service.version", notice->version);
    ADD(line, "file.path", notice->file);
    add_changes(line, notice->changes);
    if (notice->start_ms != 0) {
        ADD_TIME(line, "event.start", notice->start_ms);
        ADD_TIME(line, "event.end", notice->end_ms);
    }
    for (size_t i = 0; i < notice->number_count; i++) {
        buffer_add_literal(line, ",\"");
        buffer_add_text(line, text_of(notice->numbers[i].name));
        buffer_add_literal(line, "\":");
        buffer_add_int(line, notice->numbers[i].value);
    }
}

void audit_format_tail_prefix(struct buffer *prefix, struct text node)
{
    ADD(prefix, "service.node.name", node);
    buffer_add_literal(prefix, "," AUDIT_SEQUENCE_MEMBER);
}

void audit_format_doubt(struct buffer *line)
{
    buffer_add_literal(line, "," AUDIT_CLOCK_MEMBER "\"doubted\"");
}

void audit_format_tail(struct buffer *line, const struct buffer *prefix, int64_t sequence)
{
    buffer_add_text(line, buffer_text(prefix));
    buffer_add_int(line, sequence);
    buffer_add_literal(line, "}\n");
}
