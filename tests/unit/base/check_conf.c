/* The configuration: what is read, what is refused and with which words, dumped, compared. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "crypto.h"

#include "support_run.h"

#define HASH_A "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HASH_B "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY(name, hash, scopes, tenant) \
    "[key:" name "]\nhash = " hash "\nscopes = " scopes "\ntenant = " tenant "\n"

#define ISSUER    "[oauth]\nissuer = https://login.example\n"
#define TLS_FILES "tls_certificate_file = /c\ntls_key_file = /k\n"
#define ASKING    "[server]\n" TLS_FILES "tls_client_ca_file = /a\n"

#define SHIPPED_FILE "conf/sessiond.conf"

static char path[64];

static void write_file(const void *data, size_t length)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, length, file), length);
    fclose(file);
}

static void begin(void)
{
    snprintf(path, sizeof(path), "/tmp/check_conf.XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void end(void)
{
    unlink(path);
}

/* Loads a text that must be good. */
static struct conf *load(const char *text)
{
    struct buffer error = {0};
    write_file(text, strlen(text));
    struct conf *conf = conf_load(path, &error);
    ck_assert_msg(conf != NULL, "refused: %.*s", (int)error.length, error.data);
    ck_assert_uint_eq(error.length, 0);
    return conf;
}

/* Loads a text that must be refused; the messages, with the path cut off each. Freed by the caller.
 */
static char *load_refused(const void *text, size_t length)
{
    struct buffer error = {0}, cut = {0};
    write_file(text, length);
    ck_assert_msg(conf_load(path, &error) == NULL, "was taken: %.*s", (int)length,
                  (const char *)text);
    buffer_add_char(&error, '\0');
    for (char *line = strtok(error.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        ck_assert_msg(strncmp(line, path, strlen(path)) == 0, "no file in: %s", line);
        buffer_addf(&cut, "%s\n", line + strlen(path));
    }
    buffer_add_char(&cut, '\0');
    buffer_free(&error);
    return cut.data;
}

START_TEST(an_empty_file_gives_the_defaults)
{
    struct conf *conf = load("");
    ck_assert_str_eq(conf->server_listen, "127.0.0.1:8080");
    ck_assert_str_eq(conf->server_unix_socket, "");
    ck_assert_int_eq(conf->redis_timeout, 500);
    ck_assert_int_eq(conf->policy_access_ttl, 7200);
    ck_assert_uint_eq(conf->policy_self_service, SELF_DEVICES | SELF_KICK | SELF_LOGOUT_ALL);
    ck_assert_uint_eq(conf->policy_verify_on, 0);
    ck_assert_int_eq(conf->redis_mode, REDIS_CLUSTER);
    ck_assert_int_eq(conf->log_level, LOG_LEVEL_INFO);
    ck_assert_uint_eq(conf->redis_nodes.count, 3);
    ck_assert_str_eq(conf->redis_nodes.items[2], "127.0.0.1:7003");
    ck_assert_uint_eq(conf->server_trusted_proxies.count, 0);
    ck_assert_uint_eq(conf->key_count, 0);
    ck_assert_str_eq(conf->path, path);
    conf_unref(&conf);
    ck_assert_ptr_null(conf);
}
END_TEST

START_TEST(values_of_every_type_are_read)
{
    struct conf *conf = load("\xEF\xBB\xBF[server] # first\r\n"
                             "listen=[::]:80 ; inline\r\n"
                             "  body_limit\t=\t32K # inline\n"
                             "# comment\n"
                             "; comment\n"
                             "trusted_proxies = 10.0.0.0/8\tfd00::/8   192.0.2.1\n"
                             "[browser]\n"
                             "origins = https://shop.example https://a-b.example:8443 "
                             "http://localhost:3000 http://[::1]:3000 https://[2001:db8::1]:8443 "
                             "capacitor://localhost http://shop.localhost:3000\n"
                             "cookie_name = __Host-shop.1\n"
                             "cookie = no\n"
                             "[server]\n"
                             "header_timeout = 2m\n"
                             "workers = 7\n"
                             "[redis]\n"
                             "timeout = 2s\n"
                             "connect_timeout = 1500\n"
                             "[policy]\n"
                             "overflow = reject\n"
                             "absolute_timeout = 365d\n"
                             "self_service =\n"
                             "verify_on = new_location\n"
                             "[server]\n"
                             "unix_socket = /run/a#b;c.sock");
    ck_assert_str_eq(conf->server_listen, "[::]:80");
    ck_assert_int_eq(conf->server_body_limit, 32768);
    ck_assert_uint_eq(conf->server_trusted_proxies.count, 3);
    ck_assert_str_eq(conf->server_trusted_proxies.items[1], "fd00::/8");
    ck_assert_uint_eq(conf->browser_origins.count, 7);
    ck_assert_str_eq(conf->browser_cookie_name, "__Host-shop.1");
    ck_assert(!conf->browser_cookie);
    ck_assert_int_eq(conf->server_header_timeout, 120);
    ck_assert_int_eq(conf->server_workers, 7);
    ck_assert_int_eq(conf->redis_timeout, 2000);
    ck_assert_int_eq(conf->redis_connect_timeout, 1500);
    ck_assert_int_eq(conf->policy_overflow, OVERFLOW_REJECT);
    ck_assert_int_eq(conf->policy_absolute_timeout, 31536000);
    ck_assert_uint_eq(conf->policy_self_service, 0);
    ck_assert_uint_eq(conf->policy_verify_on, VERIFY_NEW_LOCATION);
    ck_assert_str_eq(conf->server_unix_socket, "/run/a#b;c.sock");
    conf_unref(&conf);
}
END_TEST

#define BAD_WEBHOOK(url)                                                                           \
    ":2: [alerts] webhook_url must be an https:// or http:// URL of at most 2048 printable ASCII " \
    "characters, not '" url "'\n"
#define BAD_ORIGIN(value)                                                                        \
    ":2: [browser] origins must be a list of origins as browsers print them, like "              \
    "https://shop.example or https://shop.example:8443; http:// only for localhost, not '" value \
    "'\n"
#define BAD_ISSUER(value)                                                                  \
    ":2: [oauth] issuer must be https://HOST[:PORT][/PATH] in lower case, without query, " \
    "fragment or slash at its end, or http:// for localhost, not '" value "'\n"
#define BAD_COOKIE_NAME(value)                                                                    \
    ":2: [browser] cookie_name must be __Host- and behind it letters, digits, dots, hyphens and " \
    "underscores, at most 64 in all, not '" value "'\n"

static const struct refusal {
    const char *text;
    const char *messages; /* all of them */
} refusals[] = {
    /* form */
    {"listen = 1\n", ":1: an option must stand below a [section]\n"},
    {"[server]\nlisten\n", ":2: an option has the form name = value\n"},
    {"[server\n", ":1: a heading has the form [section]\n"},
    {"[server] x\n", ":1: a heading has the form [section]\n"},
    {"[]\n", ":1: there is no section []\n"},
    {"\n[sever]\nlisten = 1\n", ":2: there is no section [sever]\n"},
    {"[Server]\n", ":1: there is no section [Server]\n"},
    {"[server]\nlissten = x\n", ":2: there is no option 'lissten' in section [server]\n"},
    {"[server]\ntimeout = 5s\n", ":2: there is no option 'timeout' in section [server]\n"},
    {"[server]\n= 5\n", ":2: there is no option '' in section [server]\n"},
    {"[server]\nworkers = 1\n\nworkers = 1\n", ":4: [server] workers was already set in line 2\n"},
    {"[server]\nworkers = 1\n[log]\n[server]\nworkers = 2\n",
     ":5: [server] workers was already set in line 2\n"},
    {"[server]\nworkers = 1\n   unix_socket = /x\n   nodes\n",
     ":4: an option has the form name = value\n"},
    /* types and bounds */
    {"[server]\nworkers = 257\n",
     ":2: [server] workers must be a number from 0 to 256, not '257'\n"},
    {"[server]\nworkers = -1\n", ":2: [server] workers must be a number from 0 to 256, not '-1'\n"},
    {"[server]\nworkers = 1s\n", ":2: [server] workers must be a number from 0 to 256, not '1s'\n"},
    {"[server]\nworkers =\n", ":2: [server] workers must be a number from 0 to 256, not ''\n"},
    {"[server]\nbody_limit = 2M\n",
     ":2: [server] body_limit must be a size from 256 to 1M (units: G, M, K), not '2M'\n"},
    {"[server]\nbody_limit = 18014398509481985K\n",
     ":2: [server] body_limit must be a size from 256 to 1M (units: G, M, K), not "
     "'18014398509481985K'\n"},
    {"[server]\nbody_limit = 99999999999999999999\n",
     ":2: [server] body_limit must be a size from 256 to 1M (units: G, M, K), not "
     "'99999999999999999999'\n"},
    {"[redis]\ntimeout = 5 s\n",
     ":2: [redis] timeout must be a time from 10ms to 1m (units: m, s, ms), not '5 s'\n"},
    {"[redis]\ntimeout = 1d\n",
     ":2: [redis] timeout must be a time from 10ms to 1m (units: m, s, ms), not '1d'\n"},
    {"[policy]\nrefresh_grace = 301\n",
     ":2: [policy] refresh_grace must be a time from 0 to 5m (units: d, h, m, s), not '301'\n"},
    {"[log]\nlevel = verbose\n",
     ":2: [log] level must be one of debug, info, warning, error, not 'verbose'\n"},
    {"[log]\nlevel = info|warning\n",
     ":2: [log] level must be one of debug, info, warning, error, not 'info|warning'\n"},
    {"[log]\nlevel =\n", ":2: [log] level must be one of debug, info, warning, error, not ''\n"},
    {"[server]\nunix_socket = /a\x01\x62\n",
     ":2: [server] unix_socket must be text in UTF-8, not '/a?b'\n"},
    {"[redis]\nnodes = a:1 \xff\xfe\n",
     ":2: [redis] nodes must be words separated by blanks, not 'a:1 ?\?'\n"},
    /* single values */
    {"[server]\nlisten = localhost:80\n",
     ":2: [server] listen must be an address and a port like 127.0.0.1:8080 or [::]:8080, not "
     "'localhost:80'\n"},
    {"[server]\nops_listen =\n",
     ":2: [server] ops_listen must be an address and a port like 127.0.0.1:8080 or [::]:8080, not "
     "''\n"},
    {"[server]\nnode_name = a b\n",
     ":2: [server] node_name must be at most 253 letters, digits, dots, hyphens and underscores, "
     "not 'a b'\n"},
    {"[server]\ntrusted_proxies = 10.0.0.0/8 10.0.0.1/8\n",
     ":2: [server] trusted_proxies must be a list of networks like 10.0.0.0/8 or fd00::/8, no bits "
     "set behind the prefix, or unix, not '10.0.0.1/8'\n"},
    {"[browser]\norigins = https://shop.example *\n", BAD_ORIGIN("*")},
    {"[browser]\norigins = null\n", BAD_ORIGIN("null")},
    {"[browser]\norigins = shop.example\n", BAD_ORIGIN("shop.example")},
    {"[browser]\norigins = https://shop.example/\n", BAD_ORIGIN("https://shop.example/")},
    {"[browser]\norigins = https://*.shop.example\n", BAD_ORIGIN("https://*.shop.example")},
    {"[browser]\norigins = https://Shop.example\n", BAD_ORIGIN("https://Shop.example")},
    {"[browser]\norigins = https://shop.example:443\n", BAD_ORIGIN("https://shop.example:443")},
    {"[browser]\norigins = https://shop.example:\n", BAD_ORIGIN("https://shop.example:")},
    {"[browser]\norigins = https://shop.example:0\n", BAD_ORIGIN("https://shop.example:0")},
    {"[browser]\norigins = https://shop.example:65536\n", BAD_ORIGIN("https://shop.example:65536")},
    {"[browser]\norigins = https://a@shop.example\n", BAD_ORIGIN("https://a@shop.example")},
    {"[browser]\norigins = https://\n", BAD_ORIGIN("https://")},
    {"[browser]\norigins = https://[::1\n", BAD_ORIGIN("https://[::1")},
    {"[browser]\norigins = https://[]\n", BAD_ORIGIN("https://[]")},
    {"[browser]\norigins = ://shop.example\n", BAD_ORIGIN("://shop.example")},
    {"[browser]\norigins = http://shop.example\n", BAD_ORIGIN("http://shop.example")},
    {"[browser]\norigins = http://localhost.shop.example\n",
     BAD_ORIGIN("http://localhost.shop.example")},
    {"[browser]\norigins = https://a.example https://a.example\n",
     ":2: [browser] origins must be a list without repetitions, not 'https://a.example'\n"},
    {"[browser]\ncookie_name = session\n", BAD_COOKIE_NAME("session")},
    {"[browser]\ncookie_name = __Host-\n", BAD_COOKIE_NAME("__Host-")},
    {"[browser]\ncookie_name = __host-session\n", BAD_COOKIE_NAME("__host-session")},
    {"[browser]\ncookie_name = __Host-a=b\n", BAD_COOKIE_NAME("__Host-a=b")},
    {"[redis]\nnodes = redis1 [::1]:7001\n",
     ":2: [redis] nodes must be a list of HOST:PORT or [IPv6]:PORT, not 'redis1'\n"},
    {"[redis]\nnodes = a:1 b:1 a:1\n",
     ":2: [redis] nodes must be a list without repetitions, not 'a:1'\n"},
    {"[redis]\nnodes =\n", ":2: [redis] nodes must be at least one HOST:PORT, not ''\n"},
    {"[policy]\nself_service = devices logout\n",
     ":2: [policy] self_service must be words, each once, out of devices, kick, logout_all, not "
     "'devices logout'\n"},
    {"[policy]\nverify_on = new_device new_device\n",
     ":2: [policy] verify_on must be words, each once, out of new_device, new_location, not "
     "'new_device new_device'\n"},
    {"[alerts]\nwebhook_url = ftp://a\nwebhook_secret_file = /s\n", BAD_WEBHOOK("ftp://a")},
    {"[oauth]\nissuer = https://\n", BAD_ISSUER("https://")},
    {"[oauth]\nissuer = https:///a\n", BAD_ISSUER("https:///a")},
    {"[oauth]\nissuer = https://a.example/\n", BAD_ISSUER("https://a.example/")},
    {"[oauth]\nissuer = ftp://a.example\n", BAD_ISSUER("ftp://a.example")},
    {"[oauth]\nissuer = a.example\n", BAD_ISSUER("a.example")},
    {"[oauth]\nissuer = https://a.example?x\n", BAD_ISSUER("https://a.example?x")},
    {"[oauth]\nissuer = https://a.example/b?x\n", BAD_ISSUER("https://a.example/b?x")},
    {"[oauth]\nissuer = https://a.example/#a\n", BAD_ISSUER("https://a.example/#a")},
    {"[oauth]\nissuer = https://u@a.example\n", BAD_ISSUER("https://u@a.example")},
    {"[oauth]\nissuer = http://a.example\n", BAD_ISSUER("http://a.example")},
    {"[oauth]\nissuer = https://A.example\n", BAD_ISSUER("https://A.example")},
    {"[oauth]\nissuer = https://a.example:0\n", BAD_ISSUER("https://a.example:0")},
    {"[oauth]\nissuer = https://a.example/a b\n", BAD_ISSUER("https://a.example/a b")},
    {"[alerts]\nwebhook_url = https://\nwebhook_secret_file = /s\n", BAD_WEBHOOK("https://")},
    {"[alerts]\nwebhook_url = http:///a\nwebhook_secret_file = /s\n", BAD_WEBHOOK("http:///a")},
    {"[alerts]\nwebhook_url = https://a b\nwebhook_secret_file = /s\n", BAD_WEBHOOK("https://a b")},
    {"[alerts]\nfile =\n", ":2: [alerts] file must be the path of a file, not ''\n"},
    {"[journal]\nfile =\n", ":2: [journal] file must be the path of a file, not ''\n"},
    {"[keys]\ninstallation = No\n",
     ":2: [keys] installation must be [a-z0-9][a-z0-9._-]{0,62}, or empty, not 'No'\n"},
    {"[browser]\nheaders = X-A X:B\n", ":2: [browser] headers must be a list of names of headers, "
                                       "like X-Client-Version, not 'X:B'\n"},
    {"[browser]\norigins = http://shop.localhost http://[::1]:81 http://127.0.0.1 http://a.test\n",
     BAD_ORIGIN("http://a.test")},
    {"[browser]\norigins = http://localhost:80\n", BAD_ORIGIN("http://localhost:80")},
    {"[redis]\nmode = sentinel\nsentinel_name =\n",
     ":3: [redis] sentinel_name must be the name of the master, not ''\n"},
    {"[redis]\nsentinel_user = a\n", ":2: [redis] sentinel_user needs a sentinel_password_file\n"},
    {"[redis]\ntls_cert_file = /a\n",
     ":2: [redis] tls_cert_file and tls_key_file need each other\n"},
    {"[redis]\ntls_key_file = /a\n",
     ":2: [redis] tls_cert_file and tls_key_file need each other\n"},
    {"[alerts]\nwebhook_url = https://a.test\n",
     ":2: [alerts] webhook_url needs a webhook_secret_file\n"},
    {"[keys]\nfile =\n", ":2: [keys] file must be the path of a file, not ''\n"},
    {"[audit]\nfile =\n", ":2: [audit] file must be the path of a file, not ''\n"},
    /* contradictions */
    {"[server]\nlisten =\n",
     ":2: [server] listen, tls_listen and unix_socket are all empty: the service would have no "
     "listener\n"},
    {"[server]\ntls_listen = localhost:8443\n" TLS_FILES,
     ":2: [server] tls_listen must be an address and a port like 127.0.0.1:8080 or [::]:8080, not "
     "'localhost:8443'\n"},
    {"[server]\ntls_listen = 127.0.0.1:8081\n" TLS_FILES,
     ":2: [server] ops_listen and tls_listen are both 127.0.0.1:8081\n"},
    {"[server]\ntls_listen = 127.0.0.1:8080\n" TLS_FILES,
     ":2: [server] listen and tls_listen are both 127.0.0.1:8080\n"},
    {"[server]\ntls_listen = 127.0.0.1:8443\n",
     ":2: [server] tls_listen needs [server] tls_certificate_file\n"},
    {"[server]\ntls_certificate_file = /c\n",
     ":2: [server] tls_certificate_file needs [server] tls_key_file\n"},
    {"[server]\ntls_key_file = /k\n",
     ":2: [server] tls_key_file needs [server] tls_certificate_file\n"},
    {"[server]\ntls_client_ca_file = /a\n",
     ":2: [server] tls_client_ca_file needs [server] tls_certificate_file\n"},
    {"[server]\nlisten = 127.0.0.1:8081\n",
     ":2: [server] listen and ops_listen are both 127.0.0.1:8081\n"},
    {"[redis]\nuser = sessiond\n", ":2: [redis] user needs a password_file\n"},
    {"[redis]\nmode = standalone\n",
     ":2: [redis] mode = standalone takes one node, nodes names 3 by default\n"},
    {"[redis]\nnodes = a:1 b:2\nmode = standalone\n",
     ":3: [redis] mode = standalone takes one node, nodes names 2\n"},
    {"[redis]\nwait_timeout = 1s\ntimeout = 1s\n",
     ":3: [redis] wait_timeout (1s) must be shorter than [redis] timeout (1s)\n"},
    {"[redis]\ntimeout = 200\n",
     ":2: [redis] connect_timeout (300ms, the default) must be no longer than [redis] timeout "
     "(200ms)\n"},
    {"[policy]\nidle_timeout = 31d\n",
     ":2: [policy] idle_timeout (31d) must be no longer than [policy] absolute_timeout (30d, the "
     "default)\n"},
    {"[policy]\naccess_ttl = 8d\n", ":2: [policy] access_ttl (8d) must be no longer than [policy] "
                                    "refresh_ttl (7d, the default)\n"},
    {"[policy]\nabsolute_timeout = 1h\n",
     ":2: [policy] access_ttl (2h, the default) must be no longer than [policy] absolute_timeout "
     "(1h)\n"},
    {"[policy]\nburst = 20\n",
     ":2: [policy] burst needs [policy] requests_per_second, which is 0 by default\n"},
    {"[policy]\nrequests_per_second = 0\nburst = 20\n",
     ":3: [policy] burst needs [policy] requests_per_second, which is 0\n"},
    {"[policy]\nrequests_per_second = x\nburst = 20\n",
     ":2: [policy] requests_per_second must be a number from 0 to 1000000, not 'x'\n"},
    {"[policy]\naccess_ttl = 30s\n",
     ":2: [policy] refresh_grace (30s, the default) must be shorter than [policy] access_ttl "
     "(30s)\n"},
    /* a refused value contradicts nothing */
    {"[policy]\naccess_ttl = 8 d\nrefresh_ttl = 1h\n",
     ":2: [policy] access_ttl must be a time from 10s to 365d (units: d, h, m, s), not '8 d'\n"},
    /* keys */
    {KEY("A", HASH_A, "login", "acme"),
     ":1: the name of a key is [a-z0-9][a-z0-9._-]{0,62}, not 'A'\n"},
    {KEY("", HASH_A, "login", "acme"),
     ":1: the name of a key is [a-z0-9][a-z0-9._-]{0,62}, not ''\n"},
    {KEY("a", "0123", "login", "acme"),
     ":2: hash must be 64 hexadecimal digits, as sessiond keygen prints them\n"},
    {KEY("a", HASH_A "00", "login", "acme"),
     ":2: hash must be 64 hexadecimal digits, as sessiond keygen prints them\n"},
    {KEY("a", HASH_A, "login root", "acme"), ":3: scopes must be words out of login validate "
                                             "manage policy introspect ops, not 'login root'\n"},
    {KEY("a", HASH_A, "", "acme"),
     ":3: scopes must be words out of login validate manage policy introspect ops, not ''\n"},
    {KEY("a", HASH_A, "login", "Acme"),
     ":4: tenant must be * or the id of a tenant: [a-z0-9][a-z0-9._-]{0,62}, not 'Acme'\n"},
    {"[key:a]\ncolour = red\n",
     ":2: there is no option 'colour' of a key; there are hash, scopes, tenant, certificate\n"
     ":1: the key has no hash\n:1: the key has no scopes\n:1: the key has no tenant\n"},
    {KEY("a", HASH_A, "login", "*") "tenant = b\n", ":5: tenant was already set for this key\n"},
    {KEY("a", HASH_A, "login", "*") KEY("a", HASH_B, "login", "*"),
     ":5: a key 'a' was already begun in line 1\n"},
    {KEY("a", HASH_A, "login", "*") KEY("b", HASH_A, "login", "*"),
     ":5: the hash is that of the key in line 1 too\n"},
    {ASKING KEY("a", HASH_A, "login", "*") "certificate = " HASH_A "0\n",
     ":9: certificate must be 64 hexadecimal digits, the SHA-256 of the client certificate's "
     "public "
     "key, not '" HASH_A "0'\n"},
    {ASKING KEY("a", HASH_A, "login", "*") "certificate = " HASH_A "\n" KEY(
         "b", HASH_B, "login", "*") "certificate = " HASH_A "\n",
     ":10: the certificate is that of the key in line 5 too\n"},
    {KEY("a", HASH_A, "login", "*") "certificate = " HASH_A "\n",
     ":1: certificate needs [server] tls_client_ca_file: no caller is asked for one\n"},
    {"[log]\nlevel = \"info\"\n",
     ":2: [log] level is in quotes, which would be part of the value; write it without\n"},
    {"[redis]\nuser = 'u'\npassword_file = /a\n",
     ":2: [redis] user is in quotes, which would be part of the value; write it without\n"},
    /* audiences */
    {"[audience:a]\nttl = 10s\n", ":1: [audience:a] needs [oauth] issuer, which is empty\n"},
    {ISSUER "[audience:A b]\n",
     ":3: the name of an audience is [a-z0-9][a-z0-9._-]{0,62}, not 'A b'\n"},
    {ISSUER "[audience:]\n", ":3: the name of an audience is [a-z0-9][a-z0-9._-]{0,62}, not ''\n"},
    {ISSUER "[audience:a]\n[log]\n[audience:a]\n",
     ":5: an audience 'a' was already begun in line 3\n"},
    {ISSUER "[audience:a]\ncolour = red\n",
     ":4: there is no option 'colour' of an audience; there are tenant, role, max_age, acr, ttl\n"},
    {ISSUER "[audience:a]\nttl = 5\nttl = 5\n", ":5: ttl was already set for this audience\n"},
    {ISSUER "[audience:a]\nttl = 61s\n",
     ":4: ttl of an audience must be a time from 1s to 1m (units: d, h, m, s), not '61s'\n"},
    {ISSUER "[audience:a]\nttl = 0\n",
     ":4: ttl of an audience must be a time from 1s to 1m (units: d, h, m, s), not '0'\n"},
    {ISSUER "[audience:a]\nmax_age = -1\n",
     ":4: max_age of an audience must be a time from 0 to 3650d (units: d, h, m, s), not '-1'\n"},
    {ISSUER "[audience:a]\ntenant = A B\n",
     ":4: tenant of an audience must be * or the id of a tenant: [a-z0-9][a-z0-9._-]{0,62}, not 'A "
     "B'\n"},
    {ISSUER "[audience:a]\ntenant =\n",
     ":4: tenant of an audience must be * or the id of a tenant: [a-z0-9][a-z0-9._-]{0,62}, not "
     "''\n"},
    {ISSUER "[audience:a]\nrole =\n",
     ":4: role of an audience must be 1 to 32 words of at most 128 bytes, not ''\n"},
    {ISSUER "[audience:a]\nacr = a b\n", ":4: acr of an audience must be 1 to 128 printable ASCII "
                                         "characters without blank, \" and \\, not 'a b'\n"},
    {"[auth]\nacr_order = silver gold\n" ISSUER "[audience:a]\nacr = gold\n[audience:b]\nacr = x\n",
     ":7: acr of [audience:b] must be one of [auth] acr_order, not 'x'\n"},
    /* everything at once: all problems are reported */
    {"[server]\nworkers = x\nfoo = 1\n[bar]\n[log]\nlevel = x\n[redis]\nuser = u\n",
     ":2: [server] workers must be a number from 0 to 256, not 'x'\n"
     ":3: there is no option 'foo' in section [server]\n"
     ":4: there is no section [bar]\n"
     ":6: [log] level must be one of debug, info, warning, error, not 'x'\n"
     ":8: [redis] user needs a password_file\n"},
};

START_TEST(bad_files_are_refused_with_file_and_line)
{
    const struct refusal *row = &refusals[_i];
    char *messages = load_refused(row->text, strlen(row->text));
    ck_assert_str_eq(messages, row->messages);
    free(messages);
}
END_TEST

START_TEST(lines_with_nul_bytes_are_refused)
{
    static const char text[] = "[server]\nworkers = 1\0000\n";
    char *messages = load_refused(text, sizeof(text) - 1);
    ck_assert_str_eq(messages, ":2: a line has at most 8191 bytes and no NUL among them\n");
    free(messages);
}
END_TEST

START_TEST(lines_that_are_too_long_are_refused_and_not_cut)
{
    char text[10000] = "[server]\nunix_socket = /";
    memset(text + strlen(text), 'a', sizeof(text) - strlen(text) - 1);
    char *messages = load_refused(text, sizeof(text) - 1);
    ck_assert_str_eq(messages, ":2: a line has at most 8191 bytes and no NUL among them\n");
    free(messages);
}
END_TEST

START_TEST(a_long_list_is_read_whole)
{
    struct buffer text = {0};
    buffer_add_literal(&text, "[server]\ntrusted_proxies =");
    for (int i = 0; i < 700; i++)
        buffer_addf(&text, " 10.%d.%d.1", i / 200, i % 200);
    buffer_add_char(&text, '\0');
    struct conf *conf = load(text.data);
    ck_assert_uint_eq(conf->server_trusted_proxies.count, 700);
    ck_assert_str_eq(conf->server_trusted_proxies.items[699], "10.3.99.1");
    conf_unref(&conf);
    buffer_free(&text);
}
END_TEST

START_TEST(a_socket_path_has_at_most_107_bytes)
{
    char text[256];
    snprintf(text, sizeof(text), "[server]\nunix_socket = /%0106d\n", 0);
    struct conf *conf = load(text);
    conf_unref(&conf);
    snprintf(text, sizeof(text), "[server]\nunix_socket = /%0107d\n", 0);
    free(load_refused(text, strlen(text)));
}
END_TEST

START_TEST(a_missing_file_and_a_directory_are_refused)
{
    struct buffer error = {0};
    ck_assert_ptr_null(conf_load("/nonexistent/sessiond.conf", &error));
    ck_assert_ptr_null(conf_load("/tmp", &error));
    buffer_add_char(&error, '\0');
    ck_assert_str_eq(error.data, "/nonexistent/sessiond.conf: cannot be opened: No such file or "
                                 "directory\n/tmp: cannot be read: Is a directory\n");
    buffer_free(&error);
}
END_TEST

START_TEST(keys_are_found_by_their_digest)
{
    char name[128];
    snprintf(name, sizeof(name), "[key:%063d]\n", 0);
    struct buffer text = {0};
    buffer_add_literal(&text, KEY("gate-way.1", HASH_A, "login,validate", "acme"));
    buffer_addf(&text, "%shash = %s\nscopes = ops\ntenant = *\n", name, HASH_B);
    buffer_add_char(&text, '\0');
    struct conf *conf = load(text.data);
    ck_assert_uint_eq(conf->key_count, 2);
    uint8_t digest[32];
    ck_assert(text_from_hex(digest, sizeof(digest), TEXT(HASH_A)));
    const struct service_key *key = conf_find_key(conf, digest);
    ck_assert_ptr_eq(key, &conf->keys[0]);
    ck_assert_str_eq(key->name, "gate-way.1");
    ck_assert_str_eq(key->tenant, "acme");
    ck_assert_uint_eq(key->scopes, SCOPE_LOGIN | SCOPE_VALIDATE);
    ck_assert_uint_eq(strlen(conf->keys[1].name), 63);
    digest[31] ^= 1;
    ck_assert_ptr_null(conf_find_key(conf, digest));
    conf_unref(&conf);
    buffer_free(&text);
}
END_TEST

START_TEST(audiences_are_found_by_their_name)
{
    struct conf *conf = load("[audience:billing]\ntenant = acme\nrole = accountant -x\n"
                             "max_age = 12h\nacr = urn:a#b\nttl = 1m\n[audience:any]\n" ISSUER);
    const struct audience *billing = conf_find_audience(conf, TEXT("billing"));
    const struct audience *any = conf_find_audience(conf, TEXT("any"));
    ck_assert_uint_eq(conf->audience_count, 2);
    ck_assert_str_eq(billing->name, "billing");
    ck_assert_str_eq(billing->tenant, "acme");
    ck_assert_uint_eq(billing->roles.count, 2);
    ck_assert_str_eq(billing->roles.items[1], "-x");
    ck_assert_int_eq(billing->max_age_s, 43200);
    ck_assert_str_eq(billing->acr, "urn:a#b");
    ck_assert_int_eq(billing->ttl_s, 60);
    ck_assert_str_eq(any->tenant, "*");
    ck_assert_uint_eq(any->roles.count, 0);
    ck_assert_int_eq(any->max_age_s, -1);
    ck_assert_str_eq(any->acr, "");
    ck_assert_int_eq(any->ttl_s, 30);
    ck_assert_ptr_null(conf_find_audience(conf, TEXT("bill")));
    ck_assert_ptr_null(conf_find_audience(conf, TEXT("")));
    conf_unref(&conf);
}
END_TEST

START_TEST(keys_are_found_by_their_certificate)
{
    struct conf *conf = load(ASKING KEY("a", HASH_A, "login", "*")
                                 KEY("b", HASH_B, "ops", "*") "certificate = " HASH_A "\n");
    uint8_t pin[32];
    ck_assert(text_from_hex(pin, sizeof(pin), TEXT(HASH_A)));
    ck_assert_ptr_eq(conf_find_certificate(conf, pin), &conf->keys[1]);
    pin[31] ^= 1;
    ck_assert_ptr_null(conf_find_certificate(conf, pin));
    memset(pin, 0, sizeof(pin)); /* the first key has none */
    ck_assert_ptr_null(conf_find_certificate(conf, pin));
    conf_unref(&conf);
}
END_TEST

START_TEST(scopes_are_words_between_blanks_or_commas)
{
    unsigned bits = 77;
    ck_assert(conf_parse_scopes(TEXT("login"), &bits));
    ck_assert_uint_eq(bits, SCOPE_LOGIN);
    ck_assert(conf_parse_scopes(TEXT(" ops, introspect,,policy manage "), &bits));
    ck_assert_uint_eq(bits, SCOPE_OPS | SCOPE_INTROSPECT | SCOPE_POLICY | SCOPE_MANAGE);
    ck_assert(conf_parse_scopes(TEXT(""), &bits));
    ck_assert_uint_eq(bits, 0);
    bits = 77;
    ck_assert(!conf_parse_scopes(TEXT("login Ops"), &bits));
    ck_assert(!conf_parse_scopes(TEXT("log"), &bits));
    ck_assert_uint_eq(bits, 77);
}
END_TEST

START_TEST(what_is_dumped_is_read_back_the_same)
{
    struct conf *conf =
        load("[server]\nlisten =\nunix_socket = /run/x y.sock\nbody_limit = 1000\n"
             "[redis]\nmode = standalone\nnodes = [::1]:7\nwait_timeout = 0\n"
             "timeout = 1500\n[policy]\nidle_timeout = 90\nrenew = fixed\n"
             "self_service = devices logout_all\n" ASKING KEY(
                 "a", HASH_A, "login ops",
                 "*") "certificate = " HASH_B "\n" ISSUER
                      "[audience:a]\nrole = -x y\nmax_age = 90\n[audience:b]\ntenant = t\n");
    for (int commented = 0; commented < 2; commented++) {
        struct buffer first = {0}, second = {0};
        conf_dump(conf, commented == 1, &first);
        write_file(first.data, first.length);
        struct conf *again = conf_load(path, &second);
        ck_assert_msg(again != NULL, "%.*s", (int)second.length, second.data);
        ck_assert_ptr_null(conf_frozen_difference(conf, again));
        conf_dump(again, commented == 1, &second);
        ck_assert(text_equal(buffer_text(&first), buffer_text(&second)));
        ck_assert_ptr_nonnull(memmem(first.data, first.length, "timeout = 1500ms\n", 17));
        ck_assert_ptr_nonnull(memmem(first.data, first.length,
                                     "\n[audience:a]\ntenant = *\nrole = -x y\nmax_age = 90s\n"
                                     "ttl = 30s\n\n[audience:b]\ntenant = t\nttl = 30s\n",
                                     88));
        ck_assert_ptr_nonnull(memmem(first.data, first.length, "scopes = login ops\n", 19));
        ck_assert_ptr_nonnull(memmem(first.data, first.length, "certificate = " HASH_B "\n", 79));
        ck_assert_ptr_nonnull(
            memmem(first.data, first.length, "self_service = devices logout_all\n", 34));
        conf_unref(&again);
        buffer_free(&first);
        buffer_free(&second);
    }
    conf_unref(&conf);
}
END_TEST

START_TEST(the_shipped_file_is_the_dump_of_the_defaults)
{
    struct conf *defaults = conf_defaults();
    struct buffer wanted = {0};
    conf_dump(defaults, true, &wanted);
    FILE *file = fopen(SHIPPED_FILE, "r");
    ck_assert_msg(file != NULL, "run from the root of the source");
    char *shipped = calloc(1, wanted.length + 2);
    size_t length = fread(shipped, 1, wanted.length + 1, file);
    ck_assert_msg(text_equal((struct text){shipped, length}, buffer_text(&wanted)),
                  "make it anew: sessiond --dump-config=commented >" SHIPPED_FILE);
    fclose(file);
    free(shipped);
    buffer_free(&wanted);
    conf_unref(&defaults);
}
END_TEST

static const struct frozen_case {
    const char *text, *option; /* NULL: may change */
} frozen[] = {
    {"[log]\nlevel = debug\n[policy]\naccess_ttl = 1h\n[redis]\nnodes = a:1\n", NULL},
    {KEY("a", HASH_A, "login", "*"), NULL},
    {"[server]\nworkers = 3\n", "server.workers"},
    {"[server]\nlisten = 127.0.0.1:9\n[audit]\nfile = /x\n", "server.listen"},
    {"[audit]\nfile = /x\n", "audit.file"},
    {"[keys]\nencryption = none\n", "keys.encryption"},
};

START_TEST(options_that_need_a_restart_are_named)
{
    struct conf *defaults = conf_defaults();
    struct conf *wanted = load(frozen[_i].text);
    const char *option = conf_frozen_difference(defaults, wanted);
    ck_assert_pstr_eq(option, frozen[_i].option);
    conf_unref(&defaults);
    conf_unref(&wanted);
}
END_TEST

START_TEST(a_published_configuration_lives_as_long_as_somebody_holds_it)
{
    conf_publish(load("[server]\nworkers = 1\n"));
    struct conf *first = conf_current();
    conf_publish(load("[server]\nworkers = 2\n"));
    struct conf *second = conf_current();
    ck_assert_int_eq(first->server_workers, 1);
    ck_assert_int_eq(second->server_workers, 2);
    struct conf *again = conf_ref(first);
    ck_assert_ptr_eq(again, first);
    conf_unref(&again);
    ck_assert_str_eq(first->server_listen, "127.0.0.1:8080");
    conf_unref(&first);
    conf_unref(&second);
    conf_publish(NULL);
}
END_TEST

START_TEST(names_follow_their_grammar)
{
    static const struct {
        const char *name;
        bool good;
    } names[] = {{"a", true},    {"0", true},    {"a.b_c-d9", true}, {"", false},
                 {".a", false},  {"-a", false},  {"_", false},       {"aB", false},
                 {"a b", false}, {"a/b", false}, {"\xc3\xa4", false}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(conf_is_name(text_of(names[i].name)) == names[i].good, "%s", names[i].name);
    char longest[64];
    memset(longest, 'a', sizeof(longest));
    ck_assert(conf_is_name((struct text){longest, 63}));
    ck_assert(!conf_is_name((struct text){longest, 64}));
    ck_assert(!conf_is_name((struct text){"a\0b", 3}));
}
END_TEST

/* Values that may hold a secret are not shown, nor what a key is. */
static const struct {
    const char *before, *after, *changes;
} differences[] = {
    {"", "", ""},
    {"", "[server]\nworkers = 7\n", "\"server.workers: 0 -> 7\""},
    {"", "[alerts]\nwebhook_url = https://a:b@c.test/\nwebhook_secret_file = /s\n",
     "\"alerts.webhook_url: changed\",\"alerts.webhook_secret_file: none -> /s\""},
    {"[alerts]\nwebhook_url = https://a:b@c.test/\nwebhook_secret_file = /s\n", "",
     "\"alerts.webhook_url: changed\",\"alerts.webhook_secret_file: /s -> none\""},
    {"", KEY("a", HASH_A, "login", "acme"), "\"key:a: none -> known\""},
    {KEY("a", HASH_A, "login", "acme"), "", "\"key:a: known -> none\""},
    {KEY("a", HASH_A, "login", "acme"), KEY("a", HASH_A, "login", "acme"), ""},
    {KEY("a", HASH_A, "login", "acme"), KEY("a", HASH_A, "ops", "acme"), "\"key:a: changed\""},
    {KEY("a", HASH_A, "login", "acme"), KEY("a", HASH_A, "login", "other"), "\"key:a: changed\""},
    {KEY("a", HASH_A, "login", "acme"), KEY("a", HASH_B, "login", "acme"), "\"key:a: changed\""},
    {KEY("a", HASH_A, "login", "acme") KEY("b", HASH_B, "login", "acme"),
     KEY("b", HASH_B, "login", "acme") KEY("c", HASH_A, "login", "acme"),
     "\"key:a: known -> none\",\"key:c: none -> known\""},
    {ISSUER "[audience:a]\nttl = 5\n[audience:b]\n[audience:c]\n",
     ISSUER "[audience:b]\nrole = x\n[audience:c]\nttl = 30\n[audience:d]\n",
     "\"audience:a: known -> none\",\"audience:b: changed\",\"audience:d: none -> known\""},
};

START_TEST(what_a_reload_changes_is_told)
{
    struct buffer out = {0};
    struct changes changes = {.out = &out};
    struct conf *before = load(differences[_i].before), *after = load(differences[_i].after);
    conf_differences(before, after, &changes);
    changes_end(&changes);
    ck_assert_msg(text_equal(buffer_text(&out), text_of(differences[_i].changes)), "%.*s",
                  (int)out.length, out.data);
    conf_unref(&before);
    conf_unref(&after);
    buffer_free(&out);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("conf");
    TCase *tests = tcase_create("conf");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, an_empty_file_gives_the_defaults);
    tcase_add_test(tests, values_of_every_type_are_read);
    tcase_add_loop_test(tests, bad_files_are_refused_with_file_and_line, 0, COUNT(refusals));
    tcase_add_test(tests, lines_with_nul_bytes_are_refused);
    tcase_add_test(tests, lines_that_are_too_long_are_refused_and_not_cut);
    tcase_add_test(tests, a_long_list_is_read_whole);
    tcase_add_test(tests, a_socket_path_has_at_most_107_bytes);
    tcase_add_test(tests, a_missing_file_and_a_directory_are_refused);
    tcase_add_test(tests, keys_are_found_by_their_digest);
    tcase_add_test(tests, audiences_are_found_by_their_name);
    tcase_add_test(tests, keys_are_found_by_their_certificate);
    tcase_add_test(tests, scopes_are_words_between_blanks_or_commas);
    tcase_add_test(tests, what_is_dumped_is_read_back_the_same);
    tcase_add_test(tests, the_shipped_file_is_the_dump_of_the_defaults);
    tcase_add_loop_test(tests, options_that_need_a_restart_are_named, 0, COUNT(frozen));
    tcase_add_loop_test(tests, what_a_reload_changes_is_told, 0, COUNT(differences));
    tcase_add_test(tests, a_published_configuration_lives_as_long_as_somebody_holds_it);
    tcase_add_test(tests, names_follow_their_grammar);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
