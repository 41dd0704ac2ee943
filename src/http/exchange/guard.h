/* The guard against malformed requests: what libmicrohttpd 0.9.75 lets through and must not reach
 * anybody. Pure; one pass over the headers checks them all and keeps the ones sessiond needs.
 *
 * Refused: HTTP/1.1 without Host; Transfer-Encoding beside Content-Length, in HTTP/1.0, twice, or
 * other than "chunked"; Content-Length twice or not digits only; any of our headers twice; bytes
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
    HEADER_COUNT
};

/* What the pass found. Values are copied: a request may outlive its connection. */
struct headers {
    struct text values[HEADER_COUNT];
    struct arena *arena;  /* where values are kept */
    const char *fault;    /* NULL, or the sentence that says what is wrong */
    const char *line_end; /* of the latest header, in the library's buffer */
};

/* Looks at a header where libmicrohttpd read it, which is where it came in: name, a NUL in place of
 * the colon, blanks, value, two NULs in place of CR LF, and right behind them the next name. The
 * library glues a folded line to the *name* of its header, which hides it or makes another one of
 * it, cuts a value at a NUL, and takes a line without a name for the end of the headers: wherever
 * its reading differs from the sender's, the bytes do not lie like this. False with a fault. */
bool guard_place(struct headers *headers, struct text name, struct text value);
/* The same for what follows the last header: the empty line. `head` is the whole head as the
 * library counts it, from the method on: behind it may lie NULs that nobody sent. */
bool guard_end(struct headers *headers, struct text head);

/* Takes one header; false once there is a fault. Of credentials the value is wiped where it lies,
 * which must be memory of a request: libmicrohttpd gives that back as it is when the connection
 * ends with the request, and has no use for these values itself. */
bool guard_header(struct headers *headers, struct text name, struct text value);
/* The same for what lies there of a body or a cookie, once it was copied. */
void guard_wipe(struct text text);

/* How the body travels. */
struct framing {
    bool chunked;
    int64_t length; /* of Content-Length, 0 without one */
};

/* Decides on the whole of the headers; false with a fault. */
bool guard_framing(struct headers *headers, bool http_1_1, struct framing *ret);

/* True for a path or query that may be looked at: printable ASCII, percent-encoding whole and
 * without control bytes. */
bool guard_target(struct text target);

/* True for a path without a segment "." or "..": it stands for another path, and a proxy may have
 * made it out of an id. */
bool guard_segments(struct text path);

/* True for a Content-Type of this media type that is not declared to be in another charset than
 * UTF-8. Other parameters say nothing here. */
bool guard_media_type(struct text content_type, const char *type);

/* True for [A-Za-z0-9._:-]{1,64}, which may be echoed. */
bool guard_request_id(struct text id);
/* Trace id and parent id of a traceparent (W3C Trace Context, section 3.2); false if it is to be
 * ignored. */
bool guard_traceparent(struct text header, struct text *trace_id, struct text *span_id);
