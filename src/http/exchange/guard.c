/* The rules of the guard; the bytes that each field allows are one table. */
#include "guard.h"

#include <string.h>
#include <strings.h>

#include "clean.h"
#include "credential.h"
#include "crypto.h"

static const struct known_header {
    const char *name;
    size_t length;
    bool single; /* a second one is refused */
    bool secret; /* holds a credential */
} known_headers[HEADER_COUNT] = {
#define KNOWN(id, name, single)  [id] = {name, sizeof(name) - 1, single, false}
#define SECRET(id, name, single) [id] = {name, sizeof(name) - 1, single, true}
    KNOWN(HEADER_HOST, "Host", true),
    SECRET(HEADER_AUTHORIZATION, "Authorization", true),
    KNOWN(HEADER_CONTENT_LENGTH, "Content-Length", true),
    KNOWN(HEADER_CONTENT_TYPE, "Content-Type", true),
    KNOWN(HEADER_CONTENT_ENCODING, "Content-Encoding", true),
    KNOWN(HEADER_TRANSFER_ENCODING, "Transfer-Encoding", true),
    SECRET(HEADER_SESSION_TOKEN, "X-Session-Token", true),
    KNOWN(HEADER_OPERATOR, "X-Operator", true),
    KNOWN(HEADER_REQUEST_ID, "X-Request-Id", true),
    KNOWN(HEADER_TRACEPARENT, "traceparent", false),
    KNOWN(HEADER_USER_AGENT, "User-Agent", false),
    KNOWN(HEADER_FINGERPRINT, "X-Device-Fingerprint", true),
    KNOWN(HEADER_FORWARDED_FOR, "X-Forwarded-For", false),
    KNOWN(HEADER_FORWARDED_PROTO, "X-Forwarded-Proto", false),
    SECRET(HEADER_COOKIE, "Cookie", false),
    KNOWN(HEADER_ORIGIN, "Origin", true),
    KNOWN(HEADER_FETCH_SITE, "Sec-Fetch-Site", true),
    KNOWN(HEADER_WANTED_METHOD, "Access-Control-Request-Method", true),
    KNOWN(HEADER_IF_MATCH, "If-Match", true),
    KNOWN(HEADER_IF_NONE_MATCH, "If-None-Match", true),
    KNOWN(HEADER_FETCH_MODE, "Sec-Fetch-Mode", false),
    KNOWN(HEADER_UPGRADE, "Upgrade", false),
    KNOWN(HEADER_WEBSOCKET_KEY, "Sec-WebSocket-Key", false),
    KNOWN(HEADER_WEBSOCKET_VERSION, "Sec-WebSocket-Version", false),
    KNOWN(HEADER_FORWARDED_METHOD, "X-Forwarded-Method", false),
    KNOWN(HEADER_FORWARDED_HOST, "X-Forwarded-Host", false),
    KNOWN(HEADER_FORWARDED_URI, "X-Forwarded-Uri", false),
    KNOWN(HEADER_ORIGINAL_METHOD, "X-Original-Method", false),
    KNOWN(HEADER_ORIGINAL_URL, "X-Original-URL", false),
    SECRET(HEADER_GATEWAY_KEY, "X-Gateway-Key", false),
#undef KNOWN
#undef SECRET
};

/* Classes of bytes, one table for all rules. */
enum byte_class {
    CLASS_TOKEN = 1,  /* tchar of RFC 9110, section 5.6.2 */
    CLASS_TARGET = 2, /* may stand in a path or query */
    CLASS_ID = 4,     /* may stand in a request id */
};

static unsigned class_of(unsigned char c)
{
    static const unsigned char classes[256] = {
        ['!'] = 3,         ['"'] = 2,  ['#'] = 1, ['$'] = 3,         ['%'] = 3, ['&'] = 3,
        ['\''] = 3,        ['('] = 2,  [')'] = 2, ['*'] = 3,         ['+'] = 3, [','] = 2,
        ['-'] = 7,         ['.'] = 7,  ['/'] = 2, ['0' ... '9'] = 7, [':'] = 6, [';'] = 2,
        ['<'] = 2,         ['='] = 2,  ['>'] = 2, ['?'] = 2,         ['@'] = 2, ['A' ... 'Z'] = 7,
        ['['] = 2,         ['\\'] = 2, [']'] = 2, ['^'] = 3,         ['_'] = 7, ['`'] = 3,
        ['a' ... 'z'] = 7, ['{'] = 2,  ['|'] = 3, ['}'] = 2,         ['~'] = 3,
    };
    return classes[c];
}

static bool all_of_class(struct text text, enum byte_class wanted)
{
    for (size_t i = 0; i < text.length; i++)
        if ((class_of((unsigned char)text.data[i]) & wanted) == 0)
            return false;
    return true;
}

/* True if one of eight bytes at once is below 0x20 or is 0x7f; exact enough to say "look closer"
 * (never misses one). */
static bool has_suspect(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t below = (word - ones * 0x20) & ~word;
    uint64_t other = word ^ (ones * 0x7f);
    uint64_t deleted = (other - ones) & ~other;
    return ((below | deleted) & highs) != 0;
}

static bool bytes_are_clean(const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool value_is_clean(struct text value)
{
    size_t i = 0;
    for (; i + sizeof(uint64_t) <= value.length; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, value.data + i, sizeof(word));
        if (has_suspect(word) && !bytes_are_clean(value.data + i, sizeof(word)))
            return false;
    }
    return bytes_are_clean(value.data + i, value.length - i);
}

static bool note_fault(struct headers *headers, const char *fault)
{
    if (headers->fault == NULL)
        headers->fault = fault;
    return false;
}

static enum header find_header(struct text name)
{
    for (unsigned i = 0; i < HEADER_COUNT; i++)
        if (known_headers[i].length == name.length &&
            strncasecmp(known_headers[i].name, name.data, name.length) == 0)
            return i;
    return HEADER_COUNT;
}

/* Headers that decide on framing must be spelled exactly: libmicrohttpd does not trim them. */
static bool decides_framing(enum header header)
{
    return header == HEADER_TRANSFER_ENCODING || header == HEADER_CONTENT_LENGTH;
}

/* A second one would let a proxy and sessiond read different requests, also where repeated headers
 * are allowed. */
static bool decides_routing(enum header header)
{
    return decides_framing(header) || header == HEADER_HOST;
}

/* The separator of a header that may come more than once and is read as one. HTTP/2 may have split
 * a Cookie header (RFC 9113, section 8.2.3). */
static const char *glue_of(enum header header)
{
    if (header == HEADER_FORWARDED_FOR || header == HEADER_FORWARDED_PROTO ||
        header == HEADER_UPGRADE)
        return ",";
    return header == HEADER_COOKIE ? "; " : NULL;
}

static bool keep_value(struct headers *headers, enum header header, struct text value)
{
    struct text *slot = &headers->values[header];
    if (slot->data == NULL) {
        *slot = arena_copy(headers->arena, decides_framing(header) ? value : text_trim(value));
        return true;
    }
    headers->repeated |= UINT64_C(1) << header;
    if (known_headers[header].single && !(headers->lenient && !decides_routing(header))) {
        return note_fault(
            headers,
            arena_format(headers->arena, "%s came twice", known_headers[header].name).data);
    }
    const char *glue = glue_of(header);
    if (glue != NULL) {
        *slot = arena_format(headers->arena, "%.*s%s%.*s", (int)slot->length, slot->data, glue,
                             (int)value.length, value.data);
    } else if (header == HEADER_TRACEPARENT) {
        slot->length = 0; /* two of them are ignored */
    }
    return true;
}

/* The longest gap that is searched: no request's headers are longer. */
enum { LONGEST_HEAD = 16384 };

bool guard_place(struct headers *headers, struct text name, struct text value)
{
    static const char ended[2] = {0};
    const char *colon = name.data + name.length;
    uintptr_t gap = (uintptr_t)value.data - (uintptr_t)colon;
    bool placed = name.length > 0 && value.data && gap >= 1 && gap <= LONGEST_HEAD && *colon == 0;
    for (uintptr_t i = 1; placed && i < gap; i++)
        placed = colon[i] == ' ' || colon[i] == '\t';
    if (placed && headers->line_end)
        placed = name.data == headers->line_end + sizeof(ended) &&
                 memcmp(headers->line_end, ended, sizeof(ended)) == 0;
    headers->line_end = value.data ? value.data + value.length : NULL;
    return placed ||
           note_fault(headers, "A header line is folded, has a NUL, or does not end in CR LF");
}

bool guard_end(struct headers *headers, struct text head)
{
    static const char ended[4] = {0};
    const char *line_end = headers->line_end;
    return !line_end ||
           (line_end + sizeof(ended) == head.data + head.length &&
            memcmp(line_end, ended, sizeof(ended)) == 0) ||
           note_fault(headers, "The headers do not end in an empty line");
}

static bool starts_in_any_case(struct text text, const char *prefix)
{
    size_t length = strlen(prefix);
    return text.length >= length && strncasecmp(text.data, prefix, length) == 0;
}

/* Proxies add these headers to what they pass on (RFC 7239 for the first). */
static bool tells_of_proxy(struct text name)
{
    static const char forwarded[] = "Forwarded";
    if (name.length == strlen(forwarded) && starts_in_any_case(name, forwarded))
        return true;
    return (name.data[0] == 'X' || name.data[0] == 'x') &&
           (starts_in_any_case(name, "X-Forwarded") || starts_in_any_case(name, "X-Original"));
}

bool guard_header(struct headers *headers, struct text name, struct text value)
{
    if (name.length == 0 || !all_of_class(name, CLASS_TOKEN))
        return note_fault(headers, "A header's name is not a token");
    if (value.data == NULL)
        value = TEXT("");
    if (!value_is_clean(value))
        return note_fault(headers, "A header's value has control characters");
    headers->relayed = headers->relayed || tells_of_proxy(name);
    enum header header = find_header(name);
    if (header == HEADER_COUNT)
        return true;
    bool kept = keep_value(headers, header, value);
    if (known_headers[header].secret)
        guard_wipe(value);
    return kept;
}

void guard_wipe(struct text text)
{
    if (text.length > 0)
        crypto_wipe((char *)text.data, text.length);
}

static bool read_length(struct text digits, int64_t *ret)
{
    /* text_to_int() may take a sign: digits only here. */
    if (digits.length == 0 || digits.data[0] < '0' || digits.data[0] > '9')
        return false;
    return text_to_int(digits, 0, INT64_MAX, ret);
}

bool guard_framing(struct headers *headers, bool http_1_1, struct framing *ret)
{
    struct text coding = headers->values[HEADER_TRANSFER_ENCODING];
    struct text length = headers->values[HEADER_CONTENT_LENGTH];
    *ret = (struct framing){0};
    if (headers->fault != NULL)
        return false;
    if (http_1_1 && headers->values[HEADER_HOST].data == NULL)
        return note_fault(headers, "HTTP/1.1 demands a Host header");
    if (coding.data != NULL) {
        if (!http_1_1 || length.data != NULL)
            return note_fault(headers, "Transfer-Encoding has no place in this request");
        if (coding.length != 7 || strncasecmp(coding.data, "chunked", 7) != 0)
            return note_fault(headers, "Transfer-Encoding must be chunked");
        ret->chunked = true;
        return true;
    }
    if (length.data != NULL && !read_length(length, &ret->length))
        return note_fault(headers, "Content-Length is not a number");
    return true;
}

bool guard_target(struct text target)
{
    for (size_t i = 0; i < target.length; i++) {
        char c = target.data[i];
        if ((class_of((unsigned char)c) & CLASS_TARGET) == 0)
            return false;
        if (c != '%')
            continue;
        if (target.length - i < 3)
            return false;
        uint8_t byte;
        if (!text_from_hex(&byte, 1, (struct text){target.data + i + 1, 2}) || byte < 0x20 ||
            byte == 0x7f)
            return false; /* not hexadecimal, or a control byte */
    }
    return true;
}

bool guard_segments(struct text path)
{
    const char *end = path.data + path.length, *at = path.data;
    while (at < end && (at = memchr(at, '.', (size_t)(end - at))) != NULL) {
        bool begins = at == path.data || at[-1] == '/';
        at += end - at > 1 && at[1] == '.' ? 2 : 1;
        if (begins && (at == end || *at == '/'))
            return false;
    }
    return true;
}

/* Cuts the first parameter off; `rest` begins after a semicolon. */
static struct text take_parameter(struct text *rest)
{
    const char *end = memchr(rest->data, ';', rest->length);
    size_t length = end ? (size_t)(end - rest->data) : rest->length;
    size_t step = end ? length + 1 : length;
    struct text parameter = {rest->data, length};
    *rest = (struct text){rest->data + step, rest->length - step};
    return text_trim(parameter);
}

static bool is_other_charset(struct text parameter)
{
    static const char name[] = "charset=";
    size_t length = sizeof(name) - 1;
    if (!starts_in_any_case(parameter, name))
        return false;
    struct text charset = {parameter.data + length, parameter.length - length};
    if (charset.length >= 2 && charset.data[0] == '"' && charset.data[charset.length - 1] == '"')
        charset = (struct text){charset.data + 1, charset.length - 2};
    static const char *const spellings[] = {"utf-8", "utf8"}; /* the second is no registered name */
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++)
        if (charset.length == strlen(spellings[i]) && starts_in_any_case(charset, spellings[i]))
            return false;
    return true;
}

bool guard_media_type(struct text content_type, const char *type)
{
    size_t length = strlen(type);
    if (!starts_in_any_case(content_type, type))
        return false;
    struct text rest =
        text_trim((struct text){content_type.data + length, content_type.length - length});
    if (rest.length > 0 && rest.data[0] != ';')
        return false;
    while (rest.length > 0)
        if (is_other_charset(take_parameter(&rest)))
            return false;
    return true;
}

bool guard_request_id(struct text id)
{
    struct text found;
    return id.length >= 1 && id.length <= 64 && all_of_class(id, CLASS_ID) &&
           !credential_find(id, &found);
}

/* Lower-case hexadecimal, and at least one digit not zero if `significant`. */
static bool is_hex(const char *data, size_t length, bool significant)
{
    bool seen = !significant;
    for (size_t i = 0; i < length; i++) {
        char c = data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        seen = seen || c != '0';
    }
    return seen;
}

bool guard_traceparent(struct text header, struct text *trace_id, struct text *span_id)
{
    enum { VERSION = 0, TRACE = 3, SPAN = 36, FLAGS = 53, LENGTH = 55 };
    const char *data = header.data;
    if (header.length < LENGTH || data[TRACE - 1] != '-' || data[SPAN - 1] != '-' ||
        data[FLAGS - 1] != '-')
        return false;
    if (!is_hex(data + VERSION, 2, false) || !is_hex(data + TRACE, 32, true) ||
        !is_hex(data + SPAN, 16, true) || !is_hex(data + FLAGS, 2, false))
        return false;
    bool version_00 = memcmp(data, "00", 2) == 0;
    if (memcmp(data, "ff", 2) == 0 || (version_00 && header.length != LENGTH) ||
        (header.length > LENGTH && data[LENGTH] != '-'))
        return false;
    *trace_id = (struct text){data + TRACE, 32};
    *span_id = (struct text){data + SPAN, 16};
    return true;
}
