/* OpenSSL over our own sockets.
 *
 * A BIO of our own moves the bytes, since OpenSSL's would write(2) and so may raise SIGPIPE.
 * Reading ahead stays off: OpenSSL then takes one record at a time from the socket, and a read of
 * at least a record's size leaves nothing behind inside. */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "memory.h"
#include "private_file.h"

enum { WHY_MAX = 128 };

struct tls_context {
    SSL_CTX *ssl;
    char *server_name; /* NULL: the host that was connected to */
};

struct tls_link {
    SSL *ssl;
    int fd;
    bool read_wants_write, write_wants_read;
    bool hung_up; /* the socket's end was read */
    bool failed;  /* nothing more may be sent, not even a goodbye */
    bool denied;
    char why[WHY_MAX];
};

/* --- bytes to and from the socket --- */

static int socket_write(BIO *bio, const char *data, int length)
{
    const struct tls_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(link->fd, data, (size_t)length, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)sent;
}

static int socket_read(BIO *bio, char *out, int size)
{
    struct tls_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t length = recv(link->fd, out, (size_t)size, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    link->hung_up = length == 0;
    return (int)length;
}

static long socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *socket_method;

/* Kept until the process ends. */
static void make_socket_method(void)
{
    socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (!socket_method || !BIO_meth_set_write(socket_method, socket_write) ||
        !BIO_meth_set_read(socket_method, socket_read) ||
        !BIO_meth_set_ctrl(socket_method, socket_control))
        abort();
}

/* --- context --- */

/* The innermost of OpenSSL's reasons for the last failure. */
static const char *last_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code && ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
                                                        : ERR_reason_error_string(code);
    return reason ? reason : "not understood";
}

static bool refuse_file(struct buffer *error, const char *option, const char *path)
{
    return private_file_refuse(error, option, path, last_reason());
}

/* The system's file, not its directory, which would be read in the middle of handshakes. */
static bool load_system_authorities(SSL_CTX *ssl, struct buffer *error)
{
    const X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    if (SSL_CTX_set_default_verify_file(ssl) &&
        sk_X509_OBJECT_num(X509_STORE_get0_objects(store)) > 0)
        return true;
    return private_file_refuse(error, "redis.tls_ca_file", X509_get_default_cert_file(),
                               "no authorities in the system's file");
}

/* OpenSSL caches a certificate's contents at first use, correctly but in a way that the thread
 * sanitizer does not understand. So it is used here, before there are threads. */
static void use_authorities(SSL_CTX *ssl)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ssl));
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (certificate)
            (void)X509_check_purpose(certificate, -1, 0);
    }
}

static bool load_authorities(SSL_CTX *ssl, const struct conf *conf, struct buffer *error)
{
    static const char option[] = "redis.tls_ca_file";
    char path[PRIVATE_FILE_PATH];
    if (!conf->redis_tls_ca_file || !conf->redis_tls_ca_file[0]) {
        if (!load_system_authorities(ssl, error))
            return false;
    } else if (!private_file_find(option, conf->redis_tls_ca_file, path, error)) {
        return false;
    } else if (!SSL_CTX_load_verify_file(ssl, path)) {
        return refuse_file(error, option, path);
    }
    use_authorities(ssl);
    return true;
}

/* A key under a passphrase must not stop the service to ask for it. */
static int no_passphrase(char *out, int size, int writing, void *user)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

static bool load_key(SSL_CTX *ssl, const char *path, struct buffer *error)
{
    int fd = private_file_open("redis.tls_key_file", path, error);
    if (fd < 0)
        return false;
    BIO *file = BIO_new_fd(fd, BIO_CLOSE);
    EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, no_passphrase, NULL) : NULL;
    bool good = key && SSL_CTX_use_PrivateKey(ssl, key);
    if (!good)
        refuse_file(error, "redis.tls_key_file", path);
    EVP_PKEY_free(key);
    BIO_free(file);
    return good;
}

static bool load_certificate(SSL_CTX *ssl, const struct conf *conf, struct buffer *error)
{
    static const char option[] = "redis.tls_cert_file";
    char path[PRIVATE_FILE_PATH];
    if (!conf->redis_tls_cert_file || !conf->redis_tls_cert_file[0])
        return true;
    if (!private_file_find(option, conf->redis_tls_cert_file, path, error))
        return false;
    if (!SSL_CTX_use_certificate_chain_file(ssl, path))
        return refuse_file(error, option, path);
    const char *key_path = conf->redis_tls_key_file;
    if (!key_path || !key_path[0])
        return private_file_refuse(error, option, path, "has no tls_key_file");
    return load_key(ssl, key_path, error) &&
           (SSL_CTX_check_private_key(ssl) ||
            private_file_refuse(error, "redis.tls_key_file", key_path,
                                "not the key of the certificate in tls_cert_file"));
}

static bool set_rules(SSL_CTX *ssl)
{
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
}

struct tls_context *tls_context_create(const struct conf *conf, struct buffer *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_socket_method);
    ERR_clear_error();
    struct tls_context *context = xcalloc(1, sizeof(*context));
    context->ssl = SSL_CTX_new(TLS_client_method());
    if (!context->ssl || !set_rules(context->ssl)) {
        buffer_addf(error, "redis.tls: %s\n", last_reason());
        goto fail;
    }
    if (!load_authorities(context->ssl, conf, error) ||
        !load_certificate(context->ssl, conf, error))
        goto fail;
    if (conf->redis_tls_server_name && conf->redis_tls_server_name[0])
        context->server_name = xstrdup(conf->redis_tls_server_name);
    ERR_clear_error();
    return context;
fail:
    ERR_clear_error();
    tls_context_free(&context);
    return NULL;
}

void tls_context_free(struct tls_context **context)
{
    struct tls_context *gone = *context;
    *context = NULL;
    if (!gone)
        return;
    SSL_CTX_free(gone->ssl);
    free(gone->server_name);
    free(gone);
}

/* --- link --- */

/* A certificate has names and addresses apart; SNI is for names alone (RFC 6066). */
static bool permission_name(SSL *ssl, const char *name)
{
    struct ip_address address;
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (ip_parse(text_of(name), &address))
        return X509_VERIFY_PARAM_set1_ip_asc(rules, name);
    return SSL_set_tlsext_host_name(ssl, name) && X509_VERIFY_PARAM_set1_host(rules, name, 0);
}

struct tls_link *tls_open(const struct tls_context *context, int fd, const char *host)
{
    struct tls_link *link = xcalloc(1, sizeof(*link));
    link->fd = fd;
    ERR_clear_error();
    link->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(socket_method);
    const char *name = context->server_name ? context->server_name : host;
    if (!link->ssl || !bio || !permission_name(link->ssl, name)) {
        snprintf(link->why, sizeof(link->why), "%s", last_reason());
        link->failed = true;
        BIO_free(bio);
        return link;
    }
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    SSL_set_bio(link->ssl, bio, bio);
    SSL_set_connect_state(link->ssl);
    return link;
}

void tls_close(struct tls_link **link)
{
    struct tls_link *gone = *link;
    *link = NULL;
    if (!gone)
        return;
    ERR_clear_error();
    if (gone->ssl && !gone->failed && SSL_is_init_finished(gone->ssl))
        SSL_shutdown(gone->ssl);
    ERR_clear_error();
    SSL_free(gone->ssl);
    free(gone);
}

/* --- failures --- */

/* Alerts by which a peer rejects our certificate. */
static bool is_denial(int reason)
{
    switch (reason) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return true;
    default:
        return false;
    }
}

static void explain_protocol(struct tls_link *link)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    long verdict = SSL_get_verify_result(link->ssl);
    link->denied = is_denial(reason);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        snprintf(link->why, sizeof(link->why), "certificate of the server: %s",
                 X509_verify_cert_error_string(verdict));
    else if (link->denied)
        snprintf(link->why, sizeof(link->why),
                 "the server refuses the certificate of this node: %s", last_reason());
    else if (reason == SSL_R_WRONG_VERSION_NUMBER)
        snprintf(link->why, sizeof(link->why), "the server does not speak TLS");
    else
        snprintf(link->why, sizeof(link->why), "TLS: %s", last_reason());
}

/* Says what an unfinished operation waits for, or why it failed. `kept_errno` is the socket's. */
static enum tls_progress classify_result(struct tls_link *link, int result, int kept_errno)
{
    switch (SSL_get_error(link->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        link->hung_up = true;
        break;
    case SSL_ERROR_SSL:
        link->failed = true;
        if (!link->hung_up)
            explain_protocol(link);
        break;
    default:
        link->failed = true;
        if (!link->hung_up)
            snprintf(link->why, sizeof(link->why), "%s", strerror(kept_errno));
        break;
    }
    if (link->hung_up)
        snprintf(link->why, sizeof(link->why), "closed by the peer");
    ERR_clear_error();
    return TLS_FAILED;
}

enum tls_progress tls_handshake(struct tls_link *link)
{
    if (link->failed)
        return TLS_FAILED;
    ERR_clear_error();
    int result = SSL_do_handshake(link->ssl);
    return result == 1 ? TLS_DONE : classify_result(link, result, errno);
}

/* --- data --- */

static ssize_t not_moved(struct tls_link *link, enum tls_progress progress)
{
    if (progress == TLS_FAILED && link->hung_up)
        return 0;
    errno = progress == TLS_FAILED ? EPROTO : EAGAIN;
    return -1;
}

ssize_t tls_read(struct tls_link *link, void *out, size_t size)
{
    size_t length;
    link->read_wants_write = false;
    if (link->failed)
        return not_moved(link, TLS_FAILED);
    ERR_clear_error();
    int result = SSL_read_ex(link->ssl, out, size, &length);
    if (result == 1)
        return (ssize_t)length;
    enum tls_progress progress = classify_result(link, result, errno);
    link->read_wants_write = progress == TLS_WANTS_WRITE;
    return not_moved(link, progress);
}

/* A peer that rejects our certificate sends an alert and closes. Writing may fail before the alert,
 * which has the reason, is read. */
static void look_for_alert(struct tls_link *link)
{
    char byte;
    size_t length;
    int result = SSL_read_ex(link->ssl, &byte, sizeof(byte), &length);
    if (result != 1 && SSL_get_error(link->ssl, result) == SSL_ERROR_SSL)
        explain_protocol(link);
    ERR_clear_error();
}

/* Record by record, since each call takes one. */
ssize_t tls_write(struct tls_link *link, const void *data, size_t length)
{
    size_t total = 0;
    link->write_wants_read = false;
    if (link->failed) {
        errno = EPROTO;
        return -1;
    }
    while (total < length) {
        size_t taken;
        ERR_clear_error();
        int result = SSL_write_ex(link->ssl, (const char *)data + total, length - total, &taken);
        if (result == 1) {
            total += taken;
            continue;
        }
        enum tls_progress progress = classify_result(link, result, errno);
        link->write_wants_read = progress == TLS_WANTS_READ;
        if (progress == TLS_FAILED)
            look_for_alert(link);
        /* Records that are out may have been acted upon: they count, and the failure is reported by
         * the next write. */
        if (total > 0)
            break;
        errno = progress == TLS_FAILED ? EPROTO : EAGAIN;
        return -1;
    }
    return (ssize_t)total;
}

bool tls_read_wants_write(const struct tls_link *link)
{
    return link->read_wants_write;
}

bool tls_write_wants_read(const struct tls_link *link)
{
    return link->write_wants_read;
}

bool tls_has_pending(const struct tls_link *link)
{
    return SSL_pending(link->ssl) > 0;
}

const char *tls_why(const struct tls_link *link)
{
    return link->why;
}

bool tls_is_denied(const struct tls_link *link)
{
    return link->denied;
}
