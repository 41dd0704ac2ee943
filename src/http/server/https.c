/* GnuTLS: files of the configuration, sessions of connections, client certificates. */
#include "https.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "clock.h"
#include "crypto.h"
#include "log.h"
#include "memory.h"
#include "metrics.h"
#include "private_file.h"

enum {
    PEM_MAX = 1 << 20,
    CHAIN_MAX = 16,
    DIGEST = 32,
    MOST_SENT = 16384 /* bytes of a TLS record */
};

struct https {
    atomic_uint references;
    gnutls_certificate_credentials_t credentials;
    bool asks;                   /* for client certificates */
    uint8_t authorities[DIGEST]; /* of the file of client CAs; zeros: none */
    uint8_t chain[DIGEST];       /* of the file of certificates */
    int64_t valid_from_s, valid_until_s;
};

/* --- files --- */

struct pem {
    const char *option, *value; /* its name, and the value that names the file */
    size_t length;
    unsigned char data[PEM_MAX];
};

static bool refuse_pem(const struct pem *pem, struct buffer *error, int code)
{
    return private_file_refuse(error, pem->option, pem->value, gnutls_strerror(code));
}

/* A file that is no secret: any mode, any owner. */
static bool read_public(struct pem *pem, struct buffer *error)
{
    char path[PRIVATE_FILE_PATH];
    if (!private_file_find(pem->option, pem->value, path, error))
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return private_file_refuse(error, pem->option, path, strerrordesc_np(errno));
    pem->length = fread(pem->data, 1, PEM_MAX, file);
    int failure = ferror(file) ? errno : 0;
    fclose(file);
    if (failure != 0)
        return private_file_refuse(error, pem->option, path, strerrordesc_np(failure));
    return pem->length < PEM_MAX ||
           private_file_refuse(error, pem->option, path, "larger than a file of certificates");
}

static struct pem *make_pem(const char *option, const char *value)
{
    struct pem *pem = xcalloc(1, sizeof(*pem));
    pem->option = option;
    pem->value = value;
    return pem;
}

static void free_pem(struct pem **pem)
{
    if (*pem != NULL)
        crypto_wipe((*pem)->data, (*pem)->length);
    free(*pem);
    *pem = NULL;
}

static gnutls_datum_t datum_of(struct pem *pem)
{
    return (gnutls_datum_t){.data = pem->data, .size = (unsigned)pem->length};
}

static bool load_client_authorities(struct https *https, const char *value, struct buffer *error)
{
    if (value[0] == '\0')
        return true;
    SCOPED(free_pem) struct pem *pem = make_pem("server.tls_client_ca_file", value);
    if (!read_public(pem, error))
        return false;
    gnutls_datum_t data = datum_of(pem);
    int count =
        gnutls_certificate_set_x509_trust_mem(https->credentials, &data, GNUTLS_X509_FMT_PEM);
    if (count < 0)
        return refuse_pem(pem, error, count);
    if (count == 0)
        return private_file_refuse(error, pem->option, pem->value, "has no certificate");
    https->asks = true;
    crypto_digest(https->authorities, (struct text){(char *)pem->data, pem->length});
    return true;
}

/* --- dates --- */

/* Narrows the time to that in which this certificate is valid, too. */
static bool narrow_validity(const gnutls_datum_t *der, int64_t *from_s, int64_t *until_s)
{
    gnutls_x509_crt_t certificate;
    if (gnutls_x509_crt_init(&certificate) != GNUTLS_E_SUCCESS)
        return false;
    bool read = gnutls_x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS;
    if (read) {
        int64_t from = gnutls_x509_crt_get_activation_time(certificate);
        int64_t until = gnutls_x509_crt_get_expiration_time(certificate);
        *from_s = from > *from_s ? from : *from_s;
        *until_s = until < *until_s ? until : *until_s;
    }
    gnutls_x509_crt_deinit(certificate);
    return read;
}

static void note_dates(struct https *https)
{
    gnutls_datum_t der;
    https->valid_from_s = INT64_MIN;
    https->valid_until_s = INT64_MAX;
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        if (gnutls_certificate_get_crt_raw(https->credentials, 0, i, &der) != GNUTLS_E_SUCCESS)
            return;
        (void)narrow_validity(&der, &https->valid_from_s, &https->valid_until_s);
    }
}

static int64_t now_s(void)
{
    return clock_wall_ms() / 1000;
}

/* Out of date counts only against a file that is to replace another: a service that starts with an
 * expired certificate still serves its other listeners. */
static bool check_dates(const struct https *https, const struct pem *pem, struct buffer *error)
{
    SCOPED(https_unref) struct https *running = https_current();
    if (running == NULL || memcmp(https->chain, running->chain, sizeof(https->chain)) == 0)
        return true;
    if (now_s() > https->valid_until_s)
        return private_file_refuse(error, pem->option, pem->value, "the certificate has expired");
    return now_s() >= https->valid_from_s ||
           private_file_refuse(error, pem->option, pem->value, "the certificate is not valid yet");
}

/* The key file is to blame for what the key lacks, also if it belongs to another certificate. */
static bool load_own_certificate(struct https *https, const struct conf *conf, struct buffer *error)
{
    SCOPED(free_pem)
    struct pem *chain = make_pem("server.tls_certificate_file", conf->server_tls_certificate_file);
    SCOPED(free_pem) struct pem *key = make_pem("server.tls_key_file", conf->server_tls_key_file);
    if (!read_public(chain, error) || !private_file_read(key->option, key->value, (char *)key->data,
                                                         PEM_MAX, &key->length, error))
        return false;
    gnutls_datum_t chain_data = datum_of(chain), key_data = datum_of(key);
    gnutls_x509_crt_t list[CHAIN_MAX];
    unsigned count = CHAIN_MAX;
    int result = gnutls_x509_crt_list_import(list, &count, &chain_data, GNUTLS_X509_FMT_PEM,
                                             GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    if (result < 0)
        return refuse_pem(chain, error, result);
    for (unsigned i = 0; i < (unsigned)result; i++)
        gnutls_x509_crt_deinit(list[i]);
    result = gnutls_certificate_set_x509_key_mem2(https->credentials, &chain_data, &key_data,
                                                  GNUTLS_X509_FMT_PEM, NULL, 0);
    if (result < 0)
        return refuse_pem(key, error, result);
    crypto_digest(https->chain, (struct text){(char *)chain->data, chain->length});
    note_dates(https);
    return check_dates(https, chain, error);
}

/* GnuTLS judges certificates by the service's clock. */
static time_t time_of_service(time_t *ret)
{
    time_t now = (time_t)now_s();
    if (ret != NULL)
        *ret = now;
    return now;
}

/* Without a certificate the listener would have nothing to show; it is there until a restart. */
static bool check_removal(struct buffer *error)
{
    SCOPED(https_unref) struct https *running = https_current();
    if (running == NULL)
        return true;
    buffer_add_literal(error, "server.tls_certificate_file is removed with a restart only\n");
    return false;
}

bool https_load(const struct conf *conf, struct https **ret, struct buffer *error)
{
    *ret = NULL;
    if (conf->server_tls_certificate_file[0] == '\0')
        return check_removal(error);
    struct https *https = xcalloc(1, sizeof(*https));
    atomic_init(&https->references, 1);
    gnutls_global_set_time_function(time_of_service);
    if (gnutls_certificate_allocate_credentials(&https->credentials) != GNUTLS_E_SUCCESS)
        abort(); /* out of memory, as in memory.c */
    if (load_own_certificate(https, conf, error) &&
        load_client_authorities(https, conf->server_tls_client_ca_file, error))
        *ret = https;
    else
        https_unref(&https);
    return *ret != NULL;
}

struct https *https_ref(struct https *https)
{
    atomic_fetch_add(&https->references, 1);
    return https;
}

void https_unref(struct https **https)
{
    struct https *last = *https;
    *https = NULL;
    if (last == NULL || atomic_fetch_sub(&last->references, 1) > 1)
        return;
    gnutls_certificate_free_credentials(last->credentials);
    free(last);
}

/* --- what is in force --- */

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct https *current;

struct https *https_current(void)
{
    pthread_mutex_lock(&current_lock);
    struct https *https = current == NULL ? NULL : https_ref(current);
    pthread_mutex_unlock(&current_lock);
    return https;
}

void https_publish(struct https *https)
{
    pthread_mutex_lock(&current_lock);
    struct https *before = current;
    current = https;
    pthread_mutex_unlock(&current_lock);
    https_unref(&before);
}

bool https_is_replaced(const struct https *https, const struct https *in_force)
{
    return https != in_force && https != NULL && in_force != NULL &&
           memcmp(https->authorities, in_force->authorities, sizeof(https->authorities)) != 0;
}

int64_t https_expires_in(const struct https *https, int64_t now)
{
    return https == NULL ? INT64_MAX : https->valid_until_s - now;
}

void https_watch(struct https_watch *watch, const struct https *https)
{
    int64_t now = now_s(), left_s = https_expires_in(https, now);
    metrics_gauge_set(METRIC_TLS_EXPIRES, https == NULL ? 0 : left_s * INT64_C(1000000000));
    if (left_s >= (int64_t)HTTPS_WARN_DAYS * DAY_S || now - watch->warned_s < DAY_S)
        return;
    watch->warned_s = now;
    log_warning("tls_certificate_expires", "option=server.tls_certificate_file seconds=%lld",
                (long long)left_s);
}

/* --- client certificates --- */

/* The cause of a refusal, and the alert that tells the client. */
struct refusal {
    const char *why;
    gnutls_alert_description_t alert;
};

static struct refusal refusal_of(unsigned status)
{
    static const struct {
        unsigned bit;
        struct refusal refusal;
    } causes[] = {
        {GNUTLS_CERT_REVOKED, {"revoked", GNUTLS_A_CERTIFICATE_REVOKED}},
        {GNUTLS_CERT_EXPIRED, {"expired", GNUTLS_A_CERTIFICATE_EXPIRED}},
        {GNUTLS_CERT_NOT_ACTIVATED, {"not valid yet", GNUTLS_A_CERTIFICATE_EXPIRED}},
        {GNUTLS_CERT_PURPOSE_MISMATCH, {"not for clients", GNUTLS_A_UNSUPPORTED_CERTIFICATE}},
        {GNUTLS_CERT_SIGNER_NOT_FOUND, {"not of server.tls_client_ca_file", GNUTLS_A_UNKNOWN_CA}},
        {GNUTLS_CERT_SIGNER_NOT_CA, {"signed by no CA", GNUTLS_A_UNKNOWN_CA}},
    };
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if ((status & causes[i].bit) != 0)
            return causes[i].refusal;
    return (struct refusal){"not valid", GNUTLS_A_BAD_CERTIFICATE};
}

/* SHA-256 of the certificate's public key, as it stands there (SubjectPublicKeyInfo). */
static bool read_pin(const gnutls_datum_t *der, uint8_t pin[CERTIFICATE_PIN])
{
    gnutls_x509_crt_t certificate;
    size_t size = CERTIFICATE_PIN;
    if (gnutls_x509_crt_init(&certificate) != GNUTLS_E_SUCCESS)
        return false;
    bool read = gnutls_x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS &&
                gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, pin, &size) ==
                    GNUTLS_E_SUCCESS;
    gnutls_x509_crt_deinit(certificate);
    return read && size == CERTIFICATE_PIN;
}

static bool is_pin_known(const uint8_t pin[CERTIFICATE_PIN])
{
    SCOPED(conf_unref) struct conf *conf = conf_current();
    return conf_find_certificate(conf, pin) != NULL;
}

/* Chain, use and dates by GnuTLS, then the pin. */
static bool judge_chain(gnutls_session_t session, const gnutls_datum_t *chain, unsigned count,
                        struct client_certificate *ret, struct refusal *refusal)
{
    gnutls_typed_vdata_st use = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                 .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned status = 0;
    *refusal = (struct refusal){"not readable", GNUTLS_A_BAD_CERTIFICATE};
    if (gnutls_certificate_verify_peers(session, &use, 1, &status) != GNUTLS_E_SUCCESS)
        return false;
    if (status != 0) {
        *refusal = refusal_of(status);
        return false;
    }
    ret->valid_from_s = INT64_MIN;
    ret->valid_until_s = INT64_MAX;
    for (unsigned i = 0; i < count; i++)
        if (!narrow_validity(&chain[i], &ret->valid_from_s, &ret->valid_until_s))
            return false;
    if (!read_pin(&chain[0], ret->pin))
        return false;
    *refusal = (struct refusal){"of no service key", GNUTLS_A_ACCESS_DENIED};
    return is_pin_known(ret->pin);
}

/* libmicrohttpd makes the connection the pointer of its session. */
static struct client *client_of(gnutls_session_t session)
{
    struct MHD_Connection *connection = gnutls_session_get_ptr(session);
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* Called in a handshake, when the client's certificate came, or that it has none. */
static int judge_client(gnutls_session_t session)
{
    struct client *client = client_of(session);
    struct refusal refusal;
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (chain == NULL || count == 0)
        return 0;
    struct client_certificate certificate = {.shown = true};
    if (judge_chain(session, chain, count, &certificate, &refusal)) {
        client->certificate = certificate;
        return 0;
    }
    metrics_add(METRIC_TLS_CLIENTS_REFUSED, 1);
    static struct log_pause pause;
    if (log_pause_over(&pause))
        log_warning("client_certificate_refused", "address=%.*s reason=\"%s\"",
                    (int)client->peer.length, client->peer.data, refusal.why);
    (void)gnutls_alert_send(session, GNUTLS_AL_FATAL, refusal.alert);
    return GNUTLS_E_CERTIFICATE_ERROR;
}

/* --- sessions --- */

static gnutls_session_t session_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
}

/* The certificate of sessions without credentials of ours: none, so that their handshake fails. */
static int give_none(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                     gnutls_pcert_st **certificates, unsigned *count,
                     gnutls_ocsp_data_st **responses, unsigned *response_count,
                     gnutls_privkey_t *key, unsigned *flags)
{
    (void)session, (void)info, (void)certificates, (void)count;
    (void)responses, (void)response_count, (void)key, (void)flags;
    return -1;
}

struct MHD_OptionItem *https_options(void)
{
    static char versions[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    static struct MHD_OptionItem options[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, versions},
        {MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    options[1].ptr_value = (void *)give_none;
    return options;
}

/* Without resumption the client's Finished is the last message that a handshake waits for. */
static int note_finished(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                         const gnutls_datum_t *message)
{
    (void)type, (void)when, (void)message;
    if (incoming != 0)
        client_of(session)->finished = true;
    return GNUTLS_E_SUCCESS;
}

void https_begin(struct https *https, struct MHD_Connection *connection, struct client *client)
{
    gnutls_session_t session = session_of(connection);
    client->https = https_ref(https);
    (void)gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, https->credentials);
    gnutls_certificate_server_set_request(session,
                                          https->asks ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
    gnutls_session_set_verify_function(session, judge_client);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST,
                                       note_finished);
}

enum https_state https_state(const struct client *client)
{
    if (client->finished)
        return HTTPS_ESTABLISHED;
    return gnutls_record_get_direction(session_of(client->connection)) == 0 ? HTTPS_WAITS_TO_READ
                                                                            : HTTPS_WAITS_TO_WRITE;
}

bool https_send(struct MHD_Connection *connection, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t sent =
            gnutls_record_send(session_of(connection), at, length < MOST_SENT ? length : MOST_SENT);
        if (sent == GNUTLS_E_INTERRUPTED)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        length -= (size_t)sent;
    }
    return true;
}
