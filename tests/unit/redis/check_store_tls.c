/* The door to TLS, against a server at the other end of a socket pair, in the same thread. */
#include <check.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory.h"
#include "redis/protocol/tls.h"
#include "support_run.h"
#include "support_store.h"

enum { STREAM_BYTES = 1 << 18, NARROW = 4608, READ_BYTES = 64 * 1024 };

static char certificate_path[64];
static SSL_CTX *server_context;
static struct conf *conf;
static struct tls_context *context;
static struct tls_link *client;
static SSL *server;
static int ends[2];

/* --- a server with a certificate of its own --- */

static X509 *make_certificate(EVP_PKEY *key, const char *alternatives)
{
    X509 *certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_set_pubkey(certificate, key);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternatives);
    ck_assert_ptr_nonnull(extension);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    ck_assert_int_gt(X509_sign(certificate, key, EVP_sha256()), 0);
    return certificate;
}

static void make_server(const char *alternatives)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key, alternatives);
    snprintf(certificate_path, sizeof(certificate_path), "/tmp/check-tls-%d", getpid());
    FILE *file = fopen(certificate_path, "w");
    ck_assert_ptr_nonnull(file);
    PEM_write_X509(file, certificate);
    fclose(file);
    server_context = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(SSL_CTX_use_certificate(server_context, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(server_context, key), 1);
    SSL_CTX_set_mode(server_context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void open_link(const char *host, const char *server_name)
{
    struct buffer error = {0};
    conf = conf_defaults();
    rig_set_text(&conf->redis_tls_ca_file, certificate_path);
    rig_set_text(&conf->redis_tls_server_name, server_name);
    context = tls_context_create(conf, &error);
    ck_assert_msg(context, "%.*s", (int)error.length, error.data ? error.data : "");
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &(int){NARROW}, sizeof(int));
    client = tls_open(context, ends[0], host);
    server = SSL_new(server_context);
    SSL_set_fd(server, ends[1]);
    SSL_set_accept_state(server);
}

static enum tls_progress shake_hands(void)
{
    enum tls_progress progress = TLS_WANTS_READ;
    bool done = false;
    for (int i = 0; i < 50 && !(done && progress == TLS_DONE) && progress != TLS_FAILED; i++) {
        if (progress != TLS_DONE)
            progress = tls_handshake(client);
        done = SSL_do_handshake(server) == 1;
    }
    return progress;
}

static void start(void)
{
    make_server("IP:127.0.0.1");
    open_link("127.0.0.1", "");
    ck_assert_int_eq(shake_hands(), TLS_DONE);
}

static void stop(void)
{
    tls_close(&client);
    tls_context_free(&context);
    conf_unref(&conf);
    SSL_free(server);
    SSL_CTX_free(server_context);
    close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    unlink(certificate_path);
}

/* --- tests --- */

static const struct {
    const char *alternatives, *host, *server_name;
    bool good;
} name_rows[] = {
    {"IP:127.0.0.1", "127.0.0.1", "", true},
    {"IP:127.0.0.1", "127.0.0.2", "", false},
    {"IP:::1", "::1", "", true},
    {"DNS:127.0.0.1", "127.0.0.1", "", false},
    {"DNS:redis.example.net", "redis.example.net", "", true},
    {"DNS:redis.example.net", "redis.example.org", "", false},
    {"DNS:*.example.net", "redis.example.net", "", true},
    {"DNS:r*.example.net", "redis.example.net", "", false},
    {"DNS:redis.example.net", "127.0.0.1", "redis.example.net", true},
    {"IP:127.0.0.1", "127.0.0.1", "redis.example.net", false},
    {"IP:10.0.0.1", "redis.example.net", "10.0.0.1", true},
};

START_TEST(the_certificate_must_bear_the_name)
{
    make_server(name_rows[_i].alternatives);
    open_link(name_rows[_i].host, name_rows[_i].server_name);
    enum tls_progress progress = shake_hands();
    ck_assert_int_eq(progress, name_rows[_i].good ? TLS_DONE : TLS_FAILED);
    if (!name_rows[_i].good) {
        ck_assert_ptr_nonnull(strstr(tls_why(client), "mismatch"));
        ck_assert(!tls_is_denied(client));
    }
    stop();
}
END_TEST

static unsigned char byte_at(size_t position)
{
    return (unsigned char)(position * 31 + position / 251);
}

static void check_bytes(const unsigned char *bytes, size_t length, size_t position)
{
    for (size_t i = 0; i < length; i++)
        ck_assert_uint_eq(bytes[i], byte_at(position + i));
}

/* A stream each way, each side taking and giving as much as goes. `rekey`: the server changes keys
 * again and again and demands that we do. */
static void exchange(bool rekey)
{
    static unsigned char sent[STREAM_BYTES], got[READ_BYTES];
    size_t client_sent = 0, server_sent = 0, client_got = 0, server_got = 0, moved;
    for (size_t i = 0; i < STREAM_BYTES; i++)
        sent[i] = byte_at(i);
    for (int turn = 0; client_got < STREAM_BYTES || server_got < STREAM_BYTES; turn++) {
        ck_assert_int_lt(turn, 100000);
        /* Bytes that are written again after EAGAIN may lie elsewhere. */
        unsigned char *moving = memcpy(xmalloc(STREAM_BYTES), sent, STREAM_BYTES);
        ssize_t taken = tls_write(client, moving + client_sent, STREAM_BYTES - client_sent);
        ck_assert(taken >= 0 || errno == EAGAIN);
        client_sent += taken > 0 ? (size_t)taken : 0;
        free(moving);
        ssize_t length = tls_read(client, got, sizeof(got));
        ck_assert(length > 0 || (length < 0 && errno == EAGAIN));
        check_bytes(got, length > 0 ? (size_t)length : 0, client_got);
        client_got += length > 0 ? (size_t)length : 0;
        ck_assert(!tls_has_pending(client));
        if (SSL_write_ex(server, sent + server_sent, STREAM_BYTES - server_sent, &moved) == 1)
            server_sent += moved;
        if (rekey && turn % 20 == 0 && SSL_get_key_update_type(server) == SSL_KEY_UPDATE_NONE)
            SSL_key_update(server, SSL_KEY_UPDATE_REQUESTED);
        if (SSL_read_ex(server, got, sizeof(got), &moved) == 1) {
            check_bytes(got, moved, server_got);
            server_got += moved;
        }
    }
}

START_TEST(everything_arrives_through_a_narrow_socket)
{
    start();
    exchange(false);
    stop();
}
END_TEST

START_TEST(everything_arrives_while_keys_change)
{
    start();
    exchange(true);
    stop();
}
END_TEST

START_TEST(what_a_small_read_leaves_inside_is_known)
{
    char out[100];
    static const char data[1000];
    start();
    size_t moved;
    ck_assert_int_eq(SSL_write_ex(server, data, sizeof(data), &moved), 1);
    ck_assert_int_eq(tls_read(client, out, sizeof(out)), 100);
    ck_assert(tls_has_pending(client));
    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(tls_read(client, out, sizeof(out)), 100);
    ck_assert(!tls_has_pending(client));
    ck_assert_int_eq(tls_read(client, out, sizeof(out)), -1);
    ck_assert_int_eq(errno, EAGAIN);
    stop();
}
END_TEST

/* With a goodbye or without one: a reply that is cut short is the codec's to find out. */
START_TEST(a_peer_that_closes_is_the_end)
{
    char out[100];
    start();
    if (_i == 0)
        SSL_shutdown(server);
    close(ends[1]);
    ends[1] = -1;
    ck_assert_int_eq(tls_read(client, out, sizeof(out)), 0);
    ck_assert_int_le(tls_write(client, "x", 1), 0);
    ck_assert_int_eq(tls_read(client, out, sizeof(out)), 0);
    stop();
}
END_TEST

/* The process must not die of it: there is no handler for SIGPIPE here. */
START_TEST(writing_to_a_peer_that_is_gone_is_an_error)
{
    start();
    close(ends[1]);
    ends[1] = -1;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(tls_write(client, "x", 1), -1);
        ck_assert_int_eq(errno, EPROTO);
    }
    ck_assert_str_eq(tls_why(client), strerror(EPIPE));
    stop();
}
END_TEST

/* In TLS 1.3 the client is through before the server has seen its certificate, or none. */
START_TEST(a_refusal_is_heard_even_if_writing_fails_first)
{
    make_server("IP:127.0.0.1");
    SSL_CTX_set_verify(server_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    open_link("127.0.0.1", "");
    for (int i = 0; i < 10 && tls_handshake(client) != TLS_DONE; i++)
        SSL_do_handshake(server);
    ck_assert_int_le(SSL_do_handshake(server), 0);
    close(ends[1]);
    ends[1] = -1;
    ck_assert_int_eq(tls_write(client, "x", 1), -1);
    ck_assert_int_eq(errno, EPROTO);
    ck_assert(tls_is_denied(client));
    ck_assert_ptr_nonnull(strstr(tls_why(client), "certificate required"));
    stop();
}
END_TEST

START_TEST(garbage_ends_the_link)
{
    char out[100];
    start();
    ck_assert_int_eq(write(ends[1], "+PONG\r\n+PONG\r\n", 14), 14);
    ck_assert_int_eq(tls_read(client, out, sizeof(out)), -1);
    ck_assert_int_eq(errno, EPROTO);
    ck_assert_str_ne(tls_why(client), "");
    ck_assert_int_eq(tls_write(client, "x", 1), -1);
    ck_assert_int_eq(errno, EPROTO);
    stop();
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *link_case(void)
{
    TCase *link = tcase_create("link");
    tcase_set_timeout(link, 30);
    tcase_add_loop_test(link, the_certificate_must_bear_the_name, 0, ROWS(name_rows));
    tcase_add_test(link, everything_arrives_through_a_narrow_socket);
    tcase_add_test(link, everything_arrives_while_keys_change);
    tcase_add_test(link, what_a_small_read_leaves_inside_is_known);
    tcase_add_loop_test(link, a_peer_that_closes_is_the_end, 0, 2);
    tcase_add_test(link, writing_to_a_peer_that_is_gone_is_an_error);
    tcase_add_test(link, a_refusal_is_heard_even_if_writing_fails_first);
    tcase_add_test(link, garbage_ends_the_link);
    return link;
}

int main(void)
{
    Suite *suite = suite_create("store_tls");
    suite_add_tcase(suite, link_case());
    return support_run(suite);
}
