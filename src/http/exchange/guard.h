/* The guard against malformed requests that libmicrohttpd 0.9.75 lets through. Pure; one pass over
 * the headers checks them all and keeps the ones that sessiond needs.
 *
 * Refused: HTTP/1.1 without Host; Transfer-Encoding beside Content-Length, in HTTP/1.0, twice, or
 * other than "chunked"; Content-Length twice or not digits only; any of our headers twice, unless
 * `lenient`, where only Host, Content-Length and Transfer-Encoding may not come twice; bytes
 * below 0x20 except tab, and 0x7f, in values; names that are no token; targets with control bytes,
 * blanks, bytes above 0x7e, broken percent-encoding, or encoded control bytes such as %00; header
 * lines that are folded, hold a NUL, have no name, or do not end in CR LF. */
#pragma once

#include "memory.h"

enum header {
    HEADER_HOST,
    HEADER_AUTHORIZATION,
    HEADER_CONTENT_LENGTH,
    HEADER_CONTENT_TYPE,
    HEADER_CONTENT_ENCODING,
    HEADER_TRANSFER_ENCODING,
    HEADER_SESSION_TOKEN,
    HEADER_OPERATOR,
    HEADER_REQUEST_ID,
    HEADER_TRACEPARENT,
    HEADER_USER_AGENT,
    HEADER_FINGERPRINT,
    HEADER_FORWARDED_FOR,
    HEADER_FORWARDED_PROTO,
    HEADER_COOKIE,
    HEADER_ORIGIN,
    HEADER_FETCH_SITE,
    HEADER_WANTED_METHOD,
    HEADER_IF_MATCH,
    HEADER_IF_NONE_MATCH,
    HEADER_FETCH_MODE,
    HEADER_UPGRADE,
    HEADER_WEBSOCKET_KEY,
    HEADER_WEBSOCKET_VERSION,
    /* The original request of a gateway's call. */
    HEADER_FORWARDED_METHOD,
    HEADER_FORWARDED_HOST,
    HEADER_FORWARDED_URI,
    HEADER_ORIGINAL_METHOD,
    HEADER_ORIGINAL_URL,
    HEADER_GATEWAY_KEY,
    HEADER_COUNT
};

/* The result of the pass. Values are copied: a request may outlive its connection. */
struct headers {
    struct text values[HEADER_COUNT];
    uint64_t repeated;    /* headers that came more than once, bits by enum header */
    bool lenient;         /* only a second header that the framing or routing needs is a fault */
    struct arena *arena;  /* for the values */
    const char *fault;    /* NULL, or a sentence about the fault */
    const char *line_end; /* of the latest header, in the library's buffer */
    bool relayed; /* one is Forwarded, or begins with X-Forwarded or X-Original: a proxy passed the
                     request on */
};

/* Checks the bytes of a header in libmicrohttpd's receive buffer: name, a NUL in place of the
 * colon, blanks, value, two NULs in place of CR LF, and right behind them the next name. The
 * library appends a folded line to the *name* of its header, which hides it or turns it into
 * another one, cuts a value at a NUL, and reads a line without a name as the end of the headers.
 * If it reads differently from the sender, the bytes do not lie like this. False with a
 * fault. */
bool guard_place(struct headers *headers, struct text name, struct text value);
/* The same for the empty line after the last header. `head` is the request line and the headers as
 * the library counts them: NULs that no client sent may lie behind it. */
bool guard_end(struct headers *headers, struct text head);

/* Checks one header, and keeps it if sessiond needs it; false once there is a fault. The value of a
 * credential is wiped in place, which must be memory of a request: libmicrohttpd frees that unwiped
 * when the connection ends with the request, and does not use these values itself. */
bool guard_header(struct headers *headers, struct text name, struct text value);
/* Wipes bytes of a body or a cookie there, once they were copied. */
void guard_wipe(struct text text);

/* True if the header came more than once. */
static inline bool guard_is_repeated(const struct headers *headers, enum header header)
{
    return (headers->repeated >> header & 1) != 0;
}

/* The framing of the body. */
struct framing {
    bool chunked;
    int64_t length; /* Content-Length, 0 without one */
};

/* Checks the headers as a whole; false with a fault. */
bool guard_framing(struct headers *headers, bool http_1_1, struct framing *ret);

/* True for a well-formed path or query: printable ASCII, complete percent-encoding without control
 * bytes. */
bool guard_target(struct text target);

/* True for a path without a segment "." or "..". Such a segment stands for another path, and a
 * proxy may have made it out of an id. */
bool guard_segments(struct text path);

/* True for a Content-Type of this media type that declares no other charset than UTF-8. Other
 * parameters are ignored. */
bool guard_media_type(struct text content_type, const char *type);

/* True for [A-Za-z0-9._:-]{1,64} without a credential, which may be echoed. */
bool guard_request_id(struct text id);
/* Reads trace id and parent id of a traceparent (W3C Trace Context, section 3.2); false if it must
 * be ignored. */
bool guard_traceparent(struct text header, struct text *trace_id, struct text *span_id);
