/* Checks beyond the types: the grammar of single values, and options that contradict each other. */
#include "conf_options.h"

#include <string.h>
#include <sys/un.h>

#include "address.h"
#include "log.h"

static const struct option_row *option_row_of(enum option_id id)
{
    return &option_rows[id];
}

/* Reports an invalid value that its type has accepted. */
static void refuse_in_report(struct conf_report *report, enum option_id id, const char *wanted,
                             const char *value)
{
    char quoted[160];
    conf_report_at(report, report->lines[id], "[%s] %s must be %s, not '%s'",
                   option_row_of(id)->section, option_row_of(id)->name, wanted,
                   log_quote(quoted, sizeof(quoted), text_of(value)));
}

/* A contradiction of two options is reported at the later line. */
static unsigned later_line(const struct conf_report *report, enum option_id id,
                           enum option_id other)
{
    return report->lines[id] > report->lines[other] ? report->lines[id] : report->lines[other];
}

/* One time that must not be longer than another. The rules for policies of tenants apply to their
 * defaults. */
static const struct order {
    enum option_id shorter, longer;
    bool strictly;
} orders[] = {
#define POLICY_ORDER(shorter, longer, strictly) \
    {OPTION_ID_policy_##shorter, OPTION_ID_policy_##longer, strictly},
#define POLICY_LIMIT(field, limit) {OPTION_ID_policy_##field, OPTION_ID_policy_##limit, false},
#include "tbl/policy.h"
    {OPTION_ID_redis_wait_timeout, OPTION_ID_redis_timeout, true},
    {OPTION_ID_redis_connect_timeout, OPTION_ID_redis_timeout, false},
};

/* A limit that has no effect without another. */
static const struct need {
    enum option_id option, other;
} needs[] = {
#define POLICY_NEEDS(option, other) {OPTION_ID_policy_##option, OPTION_ID_policy_##other},
#include "tbl/policy.h"
};

/* "5m", or "5m, the default" if it is not in the file. */
static void describe_value(const struct conf *conf, const struct conf_report *report,
                           enum option_id id, struct buffer *out)
{
    const struct option_row *row = option_row_of(id);
    row->type->print(row, conf_option_value(row, conf), out);
    if (report->lines[id] == 0)
        buffer_add_literal(out, ", the default");
}

static void check_order(const struct conf *conf, struct conf_report *report,
                        const struct order *order)
{
    int64_t shorter = *(const int64_t *)conf_option_value(option_row_of(order->shorter), conf);
    int64_t longer = *(const int64_t *)conf_option_value(option_row_of(order->longer), conf);
    bool fits = order->strictly ? shorter < longer : shorter <= longer;
    if (fits || report->refused[order->shorter] || report->refused[order->longer])
        return;
    SCOPED(buffer_free) struct buffer left = {0}, right = {0};
    describe_value(conf, report, order->shorter, &left);
    describe_value(conf, report, order->longer, &right);
    unsigned line = later_line(report, order->shorter, order->longer);
    conf_report_at(report, line, "[%s] %s (%.*s) must be %s than [%s] %s (%.*s)",
                   option_row_of(order->shorter)->section, option_row_of(order->shorter)->name,
                   (int)left.length, left.data, order->strictly ? "shorter" : "no longer",
                   option_row_of(order->longer)->section, option_row_of(order->longer)->name,
                   (int)right.length, right.data);
}

static void check_need(const struct conf *conf, struct conf_report *report, const struct need *need)
{
    int64_t value = *(const int64_t *)conf_option_value(option_row_of(need->option), conf);
    int64_t other = *(const int64_t *)conf_option_value(option_row_of(need->other), conf);
    if (value != 0 && other == 0 && !report->refused[need->other]) {
        conf_report_at(report, report->lines[need->option], "[%s] %s needs [%s] %s, which is 0%s",
                       option_row_of(need->option)->section, option_row_of(need->option)->name,
                       option_row_of(need->other)->section, option_row_of(need->other)->name,
                       report->lines[need->other] == 0 ? " by default" : "");
    }
}

/* Listeners have addresses, not names: the resolution of a name must not decide who can connect. */
static bool is_listen_address(const char *value)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    struct ip_address ip;
    return address_split(text_of(value), host, &port) && ip_parse(text_of(host), &ip);
}

static void check_same_address(struct conf_report *report, enum option_id id, const char *value,
                               enum option_id other, const char *other_value)
{
    if (value[0] != '\0' && strcmp(value, other_value) == 0)
        conf_report_at(report, later_line(report, id, other), "[server] %s and %s are both %s",
                       option_row_of(id)->name, option_row_of(other)->name, value);
}

/* One option that has no effect, or cannot work, without another. */
static void check_text_need(const struct conf *conf, struct conf_report *report, enum option_id id,
                            enum option_id other)
{
    const char *value = *(char *const *)conf_option_value(option_row_of(id), conf);
    const char *needed = *(char *const *)conf_option_value(option_row_of(other), conf);
    if (value[0] != '\0' && needed[0] == '\0')
        conf_report_at(report, report->lines[id], "[%s] %s needs [%s] %s",
                       option_row_of(id)->section, option_row_of(id)->name,
                       option_row_of(other)->section, option_row_of(other)->name);
}

static void check_tls_listener(const struct conf *conf, struct conf_report *report)
{
    check_text_need(conf, report, OPTION_ID_server_tls_listen,
                    OPTION_ID_server_tls_certificate_file);
    check_text_need(conf, report, OPTION_ID_server_tls_certificate_file,
                    OPTION_ID_server_tls_key_file);
    check_text_need(conf, report, OPTION_ID_server_tls_key_file,
                    OPTION_ID_server_tls_certificate_file);
    check_text_need(conf, report, OPTION_ID_server_tls_client_ca_file,
                    OPTION_ID_server_tls_certificate_file);
}

static void check_listeners(const struct conf *conf, struct conf_report *report)
{
    static const char wanted[] = "an address and a port like 127.0.0.1:8080 or [::]:8080";
    const char *main_listen = conf->server_listen, *ops_listen = conf->server_ops_listen;
    const char *tls_listen = conf->server_tls_listen;
    size_t socket_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (main_listen[0] == '\0' && conf->server_unix_socket[0] == '\0' && tls_listen[0] == '\0') {
        conf_report_at(report,
                       later_line(report, OPTION_ID_server_listen, OPTION_ID_server_unix_socket),
                       "[server] listen, tls_listen and unix_socket are all empty: the service "
                       "would have no listener");
    }
    if (tls_listen[0] != '\0' && !is_listen_address(tls_listen))
        refuse_in_report(report, OPTION_ID_server_tls_listen, wanted, tls_listen);
    check_same_address(report, OPTION_ID_server_listen, main_listen, OPTION_ID_server_ops_listen,
                       ops_listen);
    check_same_address(report, OPTION_ID_server_listen, main_listen, OPTION_ID_server_tls_listen,
                       tls_listen);
    check_same_address(report, OPTION_ID_server_ops_listen, ops_listen, OPTION_ID_server_tls_listen,
                       tls_listen);
    if (main_listen[0] != '\0' && !is_listen_address(main_listen))
        refuse_in_report(report, OPTION_ID_server_listen, wanted, main_listen);
    if (!is_listen_address(ops_listen))
        refuse_in_report(report, OPTION_ID_server_ops_listen, wanted, ops_listen);
    if (strlen(conf->server_unix_socket) > socket_max) {
        refuse_in_report(report, OPTION_ID_server_unix_socket, "a path of at most 107 bytes",
                         conf->server_unix_socket);
    }
}

static void check_node_name(const struct conf *conf, struct conf_report *report)
{
    const char *name = conf->server_node_name;
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (strspn(name, allowed) != strlen(name) || strlen(name) > 253) {
        refuse_in_report(report, OPTION_ID_server_node_name,
                         "at most 253 letters, digits, dots, hyphens and underscores", name);
    }
}

/* Checks a list word by word: each accepted by `accept`, none twice. */
static void check_list(struct conf_report *report, enum option_id id, const struct conf_list *list,
                       bool (*accept)(const char *word), const char *wanted)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!accept(list->items[i]))
            refuse_in_report(report, id, wanted, list->items[i]);
        for (size_t earlier = 0; earlier < i; earlier++) {
            if (strcmp(list->items[earlier], list->items[i]) == 0) {
                refuse_in_report(report, id, "a list without repetitions", list->items[i]);
                break;
            }
        }
    }
}

static bool is_node(const char *word)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    return address_split(text_of(word), host, &port);
}

static bool is_network(const char *word)
{
    struct ip_network network;
    return ip_network_parse(text_of(word), &network);
}

static bool is_proxy(const char *word)
{
    return is_network(word) || strcmp(word, PROXY_UNIX) == 0;
}

static void check_installation(const struct conf *conf, struct conf_report *report)
{
    const char *name = conf->keys_installation;
    if (name[0] != '\0' && !conf_is_name(text_of(name)))
        refuse_in_report(report, OPTION_ID_keys_installation, "[a-z0-9][a-z0-9._-]{0,62}, or empty",
                         name);
}

bool conf_is_acr(struct text acr)
{
    bool good = acr.length >= 1 && acr.length <= ACR_MAX;
    for (size_t i = 0; good && i < acr.length; i++)
        good = acr.data[i] > ' ' && acr.data[i] <= '~' && acr.data[i] != '"' && acr.data[i] != '\\';
    return good;
}

static bool is_acr(const char *word)
{
    return conf_is_acr(text_of(word));
}

static void check_lists(const struct conf *conf, struct conf_report *report)
{
    check_list(report, OPTION_ID_redis_nodes, &conf->redis_nodes, is_node,
               "a list of HOST:PORT or [IPv6]:PORT");
    check_list(
        report, OPTION_ID_server_trusted_proxies, &conf->server_trusted_proxies, is_proxy,
        "a list of networks like 10.0.0.0/8 or fd00::/8, no bits set behind the prefix, or unix");
    check_list(report, OPTION_ID_redis_near_replicas, &conf->redis_near_replicas, is_network,
               "a list of networks like 10.0.0.0/8 or fd00::/8, no bits set behind the prefix");
    check_list(report, OPTION_ID_auth_acr_order, &conf->auth_acr_order, is_acr,
               "a list of words of at most 128 printable ASCII characters without \" and \\");
}

static void check_redis(const struct conf *conf, struct conf_report *report)
{
    if (conf->redis_nodes.count == 0)
        refuse_in_report(report, OPTION_ID_redis_nodes, "at least one HOST:PORT", "");
    if (conf->redis_mode == REDIS_STANDALONE && conf->redis_nodes.count > 1) {
        unsigned line = later_line(report, OPTION_ID_redis_mode, OPTION_ID_redis_nodes);
        conf_report_at(report, line, "[redis] mode = standalone takes one node, nodes names %zu%s",
                       conf->redis_nodes.count,
                       report->lines[OPTION_ID_redis_nodes] == 0 ? " by default" : "");
    }
    if (conf->redis_user[0] != '\0' && conf->redis_password_file[0] == '\0') {
        conf_report_at(report, report->lines[OPTION_ID_redis_user],
                       "[redis] user needs a password_file");
    }
}

static void check_sentinels_and_tls(const struct conf *conf, struct conf_report *report)
{
    if (conf->redis_mode == REDIS_SENTINEL && conf->redis_sentinel_name[0] == '\0')
        refuse_in_report(report, OPTION_ID_redis_sentinel_name, "the name of the master", "");
    if (conf->redis_sentinel_user[0] != '\0' && conf->redis_sentinel_password_file[0] == '\0') {
        conf_report_at(report, report->lines[OPTION_ID_redis_sentinel_user],
                       "[redis] sentinel_user needs a sentinel_password_file");
    }
    if ((conf->redis_tls_cert_file[0] == '\0') != (conf->redis_tls_key_file[0] == '\0')) {
        unsigned line =
            later_line(report, OPTION_ID_redis_tls_cert_file, OPTION_ID_redis_tls_key_file);
        conf_report_at(report, line, "[redis] tls_cert_file and tls_key_file need each other");
    }
}

static bool is_webhook(const char *url)
{
    size_t length = strlen(url), scheme = 0;
    for (size_t i = 0; i < length; i++)
        if (url[i] <= ' ' || url[i] > '~')
            return false;
    if (strncmp(url, "https://", 8) == 0)
        scheme = 8;
    else if (strncmp(url, "http://", 7) == 0)
        scheme = 7;
    return scheme > 0 && length > scheme && url[scheme] != '/' && length <= 2048;
}

static void check_alert_options(const struct conf *conf, struct conf_report *report)
{
    if (conf->alerts_file[0] == '\0')
        refuse_in_report(report, OPTION_ID_alerts_file, "the path of a file", "");
    if (conf->alerts_webhook_url[0] == '\0')
        return;
    if (!is_webhook(conf->alerts_webhook_url)) {
        refuse_in_report(report, OPTION_ID_alerts_webhook_url,
                         "an https:// or http:// URL of at most 2048 printable ASCII characters",
                         conf->alerts_webhook_url);
    }
    if (conf->alerts_webhook_secret_file[0] == '\0') {
        conf_report_at(report, report->lines[OPTION_ID_alerts_webhook_url],
                       "[alerts] webhook_url needs a webhook_secret_file");
    }
}

static void check_files(const struct conf *conf, struct conf_report *report)
{
    if (conf->journal_file[0] == '\0')
        refuse_in_report(report, OPTION_ID_journal_file, "the path of a file", "");
    if (conf->keys_file[0] == '\0')
        refuse_in_report(report, OPTION_ID_keys_file, "the path of a file", "");
    if (conf->audit_file[0] == '\0')
        refuse_in_report(report, OPTION_ID_audit_file, "the path of a file", "");
}

#define LOWER_CASE "abcdefghijklmnopqrstuvwxyz"
#define DIGITS     "0123456789"

/* Names below localhost never leave the machine either (RFC 6761, section 6.3). */
static bool is_name_of_this_machine(struct text host)
{
    struct text below = TEXT(".localhost");
    return text_equal(host, TEXT("localhost")) || text_equal(host, TEXT("127.0.0.1")) ||
           text_equal(host, TEXT("[::1]")) ||
           (host.length > below.length &&
            memcmp(host.data + host.length - below.length, below.data, below.length) == 0);
}

/* ":8443" or nothing; a browser leaves out the port that the scheme implies. */
static bool is_origin_port(const char *port, struct text scheme)
{
    int64_t number;
    struct text digits = text_of(port[0] == '\0' ? port : port + 1);
    if (port[0] == '\0')
        return true;
    if (port[0] != ':' || strspn(digits.data, DIGITS) != digits.length || digits.data[0] == '0' ||
        !text_to_int(digits, 1, UINT16_MAX, &number))
        return false;
    return !(text_equal(scheme, TEXT("https")) && number == 443) &&
           !(text_equal(scheme, TEXT("http")) && number == 80);
}

/* An origin as browsers print it, since it is compared byte by byte. A page without TLS may be an
 * attacker's, unless it comes from this machine. */
static bool is_origin(const char *word)
{
    const char *end = strstr(word, "://");
    if (end == NULL || end == word)
        return false;
    struct text scheme = {word, (size_t)(end - word)};
    const char *host = end + 3;
    size_t length = strspn(host, LOWER_CASE DIGITS ".-_");
    if (host[0] == '[') {
        length = 1 + strspn(host + 1, "abcdef" DIGITS ":.");
        if (length == 1 || host[length++] != ']')
            return false;
    }
    bool plain = text_equal(scheme, TEXT("http"));
    return length > 0 && strspn(word, LOWER_CASE DIGITS "+.-") == scheme.length &&
           is_origin_port(host + length, scheme) &&
           (!plain || is_name_of_this_machine((struct text){host, length}));
}

/* https://HOST[:PORT][/PATH] without a slash at its end (RFC 8414, section 2); http:// for this
 * machine's names alone. */
static bool is_issuer(const char *url)
{
    char origin[256];
    const char *end = strstr(url, "://");
    if (end == NULL || strlen(url) >= sizeof(origin) || url[strlen(url) - 1] == '/' ||
        (strncmp(url, "https:", 6) != 0 && strncmp(url, "http:", 5) != 0))
        return false;
    const char *path = strchrnul(end + 3, '/');
    memcpy(origin, url, (size_t)(path - url));
    origin[path - url] = '\0';
    return is_origin(origin) &&
           path[strspn(path, LOWER_CASE "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "/-._~")] == '\0';
}

static void check_oauth(const struct conf *conf, struct conf_report *report)
{
    if (conf->oauth_issuer[0] != '\0' && !is_issuer(conf->oauth_issuer)) {
        refuse_in_report(report, OPTION_ID_oauth_issuer,
                         "https://HOST[:PORT][/PATH] in lower case, without query, fragment or "
                         "slash at its end, or http:// for localhost",
                         conf->oauth_issuer);
    }
}

/* With the prefix browsers refuse the cookie from anyone who could plant it for another host. */
static bool is_cookie_name(const char *name)
{
    static const char prefix[] = "__Host-";
    size_t length = strlen(name), least = sizeof(prefix) - 1;
    return strncmp(name, prefix, least) == 0 && length > least && length <= 64 &&
           strspn(name, LOWER_CASE "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "._-") == length;
}

/* The names also form a list in a response header: no byte may end the element or the line. */
static bool is_header_name(const char *name)
{
    size_t length = strlen(name);
    return length <= 64 &&
           strspn(name, LOWER_CASE "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "!#$%&'*+-.^_`|~") == length;
}

static void check_browser(const struct conf *conf, struct conf_report *report)
{
    check_list(report, OPTION_ID_browser_origins, &conf->browser_origins, is_origin,
               "a list of origins as browsers print them, like https://shop.example or "
               "https://shop.example:8443; http:// only for localhost");
    check_list(report, OPTION_ID_browser_headers, &conf->browser_headers, is_header_name,
               "a list of names of headers, like X-Client-Version");
    if (!is_cookie_name(conf->browser_cookie_name)) {
        refuse_in_report(
            report, OPTION_ID_browser_cookie_name,
            "__Host- and behind it letters, digits, dots, hyphens and underscores, at most 64 "
            "in all",
            conf->browser_cookie_name);
    }
}

void conf_check(const struct conf *conf, struct conf_report *report)
{
    check_listeners(conf, report);
    check_tls_listener(conf, report);
    check_node_name(conf, report);
    check_installation(conf, report);
    check_lists(conf, report);
    check_redis(conf, report);
    check_sentinels_and_tls(conf, report);
    check_files(conf, report);
    check_alert_options(conf, report);
    check_browser(conf, report);
    check_oauth(conf, report);
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
        check_order(conf, report, &orders[i]);
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
        check_need(conf, report, &needs[i]);
}
