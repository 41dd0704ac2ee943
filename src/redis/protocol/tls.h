/* TLS on the connections to Redis: the door to OpenSSL's TLS.
 *
 * A context holds certificates and rules. It is built at start and at reload, where files may
 * block, and is immutable: any thread may open links from it. A link wraps one connected,
 * nonblocking socket, which stays its owner's, and belongs to one thread. TLS 1.2 or later; the
 * server's certificate must come from a trusted CA and bear the expected name. */
#pragma once

#include <sys/types.h>

#include "conf.h"

struct tls_context;
struct tls_link;

/* NULL with *error, lines that name option and file, if a file cannot be used. */
struct tls_context *tls_context_create(const struct conf *conf, struct buffer *error);
/* Links that are open keep what they need of it. */
void tls_context_free(struct tls_context **context);

/* `host`, a name or an IP literal, must be in the certificate unless redis.tls_server_name says
 * otherwise. */
struct tls_link *tls_open(const struct tls_context *context, int fd, const char *host);
/* Says goodbye to the peer if the socket takes it at once; the socket stays open. */
void tls_close(struct tls_link **link);

enum tls_progress { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_FAILED };
/* One step of the handshake; then wait for the socket to become readable or writable. */
enum tls_progress tls_handshake(struct tls_link *link);

/* As read(2) and send(2) on the socket: bytes moved, 0 if the peer has closed, -1 with errno.
 * EAGAIN: wait for the socket; tls_read_wants_write() and tls_write_wants_read() tell if for the
 * other direction. EPROTO: the link has failed, tls_why() says why. After EAGAIN a write must be
 * repeated with the same bytes at least, wherever they lie. */
ssize_t tls_read(struct tls_link *link, void *out, size_t size);
ssize_t tls_write(struct tls_link *link, const void *data, size_t length);
bool tls_read_wants_write(const struct tls_link *link);
bool tls_write_wants_read(const struct tls_link *link);
/* True if the link holds bytes that will not make the socket readable: read on. */
bool tls_has_pending(const struct tls_link *link);

/* One line of printable ASCII; "closed by the peer" if it just hung up. */
const char *tls_why(const struct tls_link *link);
/* True if the peer refused our certificate, or the lack of one. */
bool tls_is_denied(const struct tls_link *link);
