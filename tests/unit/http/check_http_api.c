/* The answer of each call to each kind of caller: a row for each case, on one worker. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "support_http.h"
#include "support_run.h"

#define PLATFORM "sk_platform" /* all scopes, all tenants */
#define ACME     "sk_acme"     /* all scopes, one tenant */
#define READER   "sk_reader"   /* may validate */
#define OTHER    "sk_other"    /* all scopes, another tenant */

static struct rig_session alice, second;
static int client;

static void add_key(const char *key, unsigned scopes, const char *tenant)
{
    struct service_key *added = &rig.conf->keys[rig.conf->key_count++];
    added->name = xstrdup(key + 3);
    added->tenant = xstrdup(tenant);
    added->scopes = scopes;
    crypto_digest(added->digest, text_of(key));
}

static void set_up(void)
{
    http_set_up();
    rig.conf->keys = xcalloc(4, sizeof(struct service_key));
    add_key(PLATFORM, ~0u, "*");
    add_key(ACME, ~0u, "acme");
    add_key(READER, SCOPE_VALIDATE, "*");
    add_key(OTHER, ~0u, "other");
    rig_watch(served.node, true);
    alice = rig_login_from(served.peer, "alice", "192.0.2.1", "finger");
    second = rig_login(served.peer, "alice");
    clock_fake_pass(5);
    client = http_connect();
}

static void tear_down(void)
{
    close(client);
    http_tear_down();
}

/* --- calls --- */

/* $A alice's access token, $R her refresh token, $I her session, $2 her second one. */
static void expand(const char *template, char *out, size_t size)
{
    size_t length = 0;
    for (const char *at = template; *at; at++) {
        struct text text = {at, 1};
        if (*at == '$') {
            at++;
            text = *at == 'A'   ? rig_access(&alice)
                   : *at == 'R' ? rig_refresh(&alice)
                   : *at == 'I' ? rig_id(&alice)
                                : rig_id(&second);
        }
        ck_assert_uint_lt(length + text.length, size);
        memcpy(out + length, text.data, text.length);
        length += text.length;
    }
    out[length] = '\0';
}

static const char *call(const char *line, const char *credential, const char *headers,
                        const char *body)
{
    char template[4096], request[8192], length[64] = "", given[2048] = "";
    if (body) {
        expand(body, given, sizeof(given));
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(given));
        if (!headers || !strstr(headers, "Content-Type"))
            strcat(length, "Content-Type: application/json\r\n");
    }
    snprintf(template, sizeof(template), "%s HTTP/1.1\r\nHost: api.test\r\n%s%s%s%s%s\r\n%s", line,
             credential ? "Authorization: Bearer " : "", credential ? credential : "",
             credential ? "\r\n" : "", headers ? headers : "", length, body ? body : "");
    expand(template, request, sizeof(request));
    http_send(client, request);
    return http_wait(client);
}

static void assert_answer(const char *answer, unsigned status, const char *part)
{
    char head[16];
    snprintf(head, sizeof(head), "HTTP/1.1 %u", status);
    ck_assert_msg(strncmp(answer, head, strlen(head)) == 0 && strstr(answer, part) != NULL,
                  "not %u %s: %s", status, part, answer);
}

struct row {
    const char *line, *credential, *headers, *body;
    unsigned status;
    const char *part; /* of the answer */
};

static void assert_row(const struct row *row)
{
    assert_answer(call(row->line, row->credential, row->headers, row->body), row->status,
                  row->part);
}

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static const struct row users[] = {
    {"GET /v1/validate", "$A", NULL, NULL, 200, "\"user_id\":\"alice\""},
    {"GET /v1/devices", "$A", NULL, NULL, 200, "\"total\":2"},
    {"DELETE /v1/devices/$2", "$A", NULL, NULL, 200, "\"ended\":1"},
    {"DELETE /v1/devices/$2?reason=lost_phone", "$A", NULL, NULL, 200, "\"ended\":1"},
    {"DELETE /v1/devices/$2?reason=Lost", "$A", NULL, NULL, 400, "must be"},
    {"DELETE /v1/devices/$2?reason=expired", "$A", NULL, NULL, 400, "must not be \\\"expired\\\""},
    {"DELETE /v1/devices/0000000000000001", "$A", NULL, NULL, 404, "session_not_found"},
    {"POST /v1/logout", "$A", NULL, NULL, 200, "\"ended\":1"},
    {"POST /v1/logout", "$A", NULL, "{}", 200, "\"ended\":1"},
    {"POST /v1/logout", "$A", NULL, "{\"odd\":1}", 400, "body_invalid"},
    {"POST /v1/logout", "sa_nothing", NULL, NULL, 200, "\"ended\":0"},
    {"POST /v1/logout-all", "$A", NULL, NULL, 200, "\"ended\":2"},
    {"POST /v1/logout-all", "$A", NULL, "{\"keep_current\":true}", 200, "\"ended\":1"},
    {"POST /v1/logout-all", "$A", NULL, "{\"keep_current\":1}", 400, "body_invalid"},
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":\"$R\"}", 200, "\"access_token\":\"sa_"},
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":\"sr_no\"}", 401, "refresh_invalid"},
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":1}", 400, "body_invalid"},
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":\"$R\",\"cookie\":true}", 200,
     "\"set_cookie\":[\"__Host-session=sa_"},
    {"POST /v1/refresh", NULL, NULL, NULL, 400, "body_invalid"},
    {"GET /v1/session/attributes", "$A", NULL, NULL, 200, "ETag"},
    {"GET /v1/session/attributes", "sa_no", NULL, NULL, 401, "token_invalid"},
    {"GET /v1/session/attributes", "$A", "If-Match: odd\r\n", NULL, 400, "If-Match must be"},
    {"GET /v1/session/attributes", "$A", "If-None-Match: odd\r\n", NULL, 400, "If-None-Match must"},
    {"GET /v1/session/attributes", "$A", "If-None-Match: *\r\n", NULL, 304, "ETag"},
    {"PUT /v1/session/attributes", "$A", NULL, "{\"a\":1}", 200, "{\"a\":1}"},
    {"PUT /v1/session/attributes", "$A", NULL, "[1]", 400, "body_invalid"},
    {"PUT /v1/session/attributes", "$A", "Content-Type: text/plain\r\n", "{}", 415,
     "application/json"},
    {"PUT /v1/session/attributes", "$A", "Content-Encoding: gzip\r\n", "{}", 415,
     "Content-Encoding"},
    {"PUT /v1/session/attributes", "$A", "Content-Encoding: identity\r\n", "{}", 200, "{}"},
    {"PUT /v1/session/attributes", "$A", "If-Match: \"no\"\r\n", "{}", 412, "precondition_failed"},
    {"PATCH /v1/session/attributes", "$A", "Content-Type: application/merge-patch+json\r\n",
     "{\"b\":2}", 200, "{\"b\":2}"},
    {"PATCH /v1/session/attributes", "$A", NULL, "{\"b\":2}", 415, "merge-patch"},
};

START_TEST(what_users_may_call)
{
    assert_row(&users[_i]);
}
END_TEST

#define USER "/v1/users/alice"

static const struct row services[] = {
    {"POST /v1/login", PLATFORM, NULL, "{\"user_id\":\"bob\"}", 201, "\"tenant\":\"default\""},
    {"POST /v1/login?tenant=acme", PLATFORM, NULL, "{\"user_id\":\"bob\",\"tenant\":\"acme\"}", 201,
     "\"tenant\":\"acme\""},
    {"POST /v1/login?tenant=acme", PLATFORM, NULL, "{\"user_id\":\"bob\",\"tenant\":\"other\"}",
     400, "names another"},
    {"POST /v1/login", ACME, NULL,
     "{\"user_id\":\"bob\",\"ip\":\"198.51.100.7\",\"user_agent\":\"x\",\"roles\":[\"a\"],"
     "\"device\":"
     "{\"id\":\"d\",\"type\":\"tv\"},\"attributes\":{\"a\":1},\"remember\":true}",
     201, "\"tenant\":\"acme\""},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\",\"ip\":\"nowhere\"}", 201, "\"sa_"},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\",\"tenant\":\"other\"}", 403,
     "tenant_forbidden"},
    {"POST /v1/login", PLATFORM, NULL, "{\"user_id\":\"bob\",\"tenant\":\"No\"}", 400,
     "must match"},
    {"POST /v1/login?tenant=No", PLATFORM, NULL, "{\"user_id\":\"bob\"}", 400, "must match"},
    {"POST /v1/login", ACME, NULL, "{}", 400, "user_id"},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\",\"cookie\":true}", 201, "Set-Cookie"},
    {"POST /v1/login", READER, NULL, "{\"user_id\":\"bob\"}", 403, "lacks the scope"},
    {"POST /v1/login", "sk_wrong", NULL, "{\"user_id\":\"bob\"}", 401, "key_invalid"},
    {"POST /v1/login", "$A", NULL, "{\"user_id\":\"bob\"}", 403, "not a user's token"},
    {"POST /v1/login", NULL, NULL, "{\"user_id\":\"bob\"}", 401, "must be of the form"},
    {"POST /v1/login", NULL, "Authorization: Bearer \r\n", "{}", 401, "must be of the form"},
    {"POST /v1/login", NULL, "Authorization: Basic xyz\r\n", "{}", 401, "must be of the form"},
    {"GET /v1/validate", READER, "X-Session-Token: $A\r\n", NULL, 200, "\"active\":true"},
    {"GET /v1/validate?tenant=acme", READER, "X-Session-Token: $A\r\n", NULL, 200, "\"active\""},
    {"GET /v1/validate?tenant=other", READER, "X-Session-Token: $A\r\n", NULL, 401,
     "token_invalid"},
    {"GET /v1/validate", READER, NULL, NULL, 401, "X-Session-Token"},
    {"GET /v1/validate", NULL, NULL, NULL, 401, "or the session cookie"},
    {"POST /v1/validate", READER, NULL, "{\"token\":\"$A\"}", 200, "\"active\":true"},
    {"POST /v1/validate", ACME, NULL, "{\"token\":\"$A\",\"touch\":false,\"ip\":\"192.0.2.1\"}",
     200, "\"active\":true"},
    {"POST /v1/validate", READER, NULL, "{\"token\":\"$R\"}", 200, "\"active\":false"},
    {"POST /v1/validate", READER, NULL, "{\"token\":\"sa_x\",\"ip\":\"192.0.2.9\"}", 200,
     "malformed"},
    {"POST /v1/validate", READER, NULL, "{}", 400, "token"},
    {"POST /v1/refresh", PLATFORM, NULL,
     "{\"refresh_token\":\"$R\",\"ip\":\"192.0.2.1\",\"device_fingerprint\":\"finger\"}", 200,
     "sa_"},
    {"GET /v1/devices", ACME, "X-Session-Token: $A\r\n", NULL, 200, "\"current\":true"},
    {"GET " USER, ACME, NULL, NULL, 200, "\"devices\":2"},
    {"GET " USER, PLATFORM, NULL, NULL, 400, "\\\"tenant\\\" is missing"},
    {"GET " USER "?tenant=acme", PLATFORM, NULL, NULL, 200, "\"frozen\":false"},
    {"GET " USER "?tenant=other", ACME, NULL, NULL, 403, "tenant_forbidden"},
    {"GET /v1/users/-?user_id=alice", ACME, NULL, NULL, 200, "\"devices\":2"},
    {"GET /v1/users/-", ACME, NULL, NULL, 400, "must be in the query"},
    {"GET /v1/users/-?user_id=$A", ACME, NULL, NULL, 400, "no credential"},
    {"GET " USER "?user_id=alice", ACME, NULL, NULL, 400, "only where the path has -"},
    {"GET /v1/users/%C3", ACME, NULL, NULL, 400, "not clean UTF-8"},
    {"GET /v1/users/$A", ACME, NULL, NULL, 400, "no credential"},
    {"GET " USER "/devices", ACME, NULL, NULL, 200, "\"total\":2"},
    {"GET /v1/users/-/devices", ACME, NULL, NULL, 400, "query_invalid"},
    {"GET " USER "/history", ACME, NULL, NULL, 200, "\"sessions\":[]"},
    {"GET /v1/users/-/history", ACME, NULL, NULL, 400, "query_invalid"},
    {"DELETE " USER "/devices/$I", ACME, NULL, NULL, 200, "\"ended\":1"},
    {"DELETE " USER "/devices/$I", ACME, "X-Operator: eve\r\n", NULL, 200, "\"ended\":1"},
    {"DELETE " USER "/devices/$I?reason=NO", ACME, NULL, NULL, 400, "must be"},
    {"DELETE " USER "/devices/$I?reason=revoked", ACME, NULL, NULL, 400, "must not be"},
    {"DELETE /v1/users/-/devices/$I", ACME, NULL, NULL, 400, "query_invalid"},
    {"POST " USER "/freeze", ACME, NULL, NULL, 200, "\"ended\":2"},
    {"POST " USER "/freeze", ACME, NULL, "{\"reason\":\"fraud\",\"until\":1800000060}", 200,
     "\"ended\""},
    {"POST " USER "/freeze", ACME, NULL, "{\"until\":1700000000}", 400, "from now to ten years"},
    {"POST " USER "/freeze", ACME, NULL, "{\"until\":9900000000}", 400, "from now to ten years"},
    {"POST " USER "/freeze", ACME, NULL, "{\"reason\":\"x y\"}", 400, "must be"},
    {"POST " USER "/unfreeze", ACME, NULL, NULL, 200, "\"ended\":0"},
    {"POST " USER "/unfreeze", ACME, NULL, "{\"until\":1}", 400, "until"},
    {"POST " USER "/unfreeze", ACME, NULL, "{\"reason\":\"NO\"}", 400, "must be"},
    {"POST " USER "/logout-all", ACME, NULL, NULL, 200, "\"ended\":2"},
    {"POST " USER "/logout-all", ACME, NULL, "{\"keep_session\":\"$I\"}", 200, "\"ended\":1"},
    {"POST " USER "/logout-all", ACME, NULL, "{\"keep_session\":\"zzzzzzzzzzzzzzzz\"}", 400,
     "keep_session"},
    {"POST " USER "/logout-all", ACME, NULL, "{\"reason\":\"NO\"}", 400, "must be"},
    {"GET /v1/tenants/acme/sessions", ACME, NULL, NULL, 200, "\"users\":["},
    {"GET /v1/tenants/acme/sessions?page_size=1", PLATFORM, NULL, NULL, 200, "\"alice\""},
    {"GET /v1/tenants/acme/sessions?page_size=0", ACME, NULL, NULL, 400, "from 1 to 100"},
    {"GET /v1/tenants/acme/sessions?page_token=odd", ACME, NULL, NULL, 400, "query_invalid"},
    {"GET /v1/tenants/No/sessions", ACME, NULL, NULL, 400, "must match"},
    {"GET /v1/tenants/acme/policy", ACME, NULL, NULL, 200, "ETag"},
    {"GET /v1/tenants/other/policy", ACME, NULL, NULL, 403, "tenant_forbidden"},
    {"GET /v1/tenants/acme/policy", ACME, "If-Match: odd\r\n", NULL, 400, "If-Match"},
    {"PUT /v1/tenants/acme/policy", ACME, NULL, "{\"access_ttl\":60}", 200, "\"access_ttl\":60"},
    {"PUT /v1/tenants/acme/policy", ACME, NULL, "{\"odd\":60}", 400, "odd"},
    {"PUT /v1/tenants/acme/policy", ACME, "Content-Type: text/xml\r\n", "{}", 415,
     "application/json"},
    {"PUT /v1/tenants/acme/policy", ACME, "If-Match: \"no\"\r\n", "{}", 412, "precondition"},
    {"PATCH /v1/tenants/acme/policy", ACME, "Content-Type: application/merge-patch+json\r\n",
     "{\"access_ttl\":60}", 200, "\"access_ttl\":60"},
    {"PATCH /v1/tenants/acme/policy", ACME, NULL, "{}", 415, "merge-patch"},
    {"DELETE /v1/tenants/acme/policy", ACME, NULL, NULL, 200, "ETag"},
    {"POST /v1/tenants/acme/logout-all", ACME, NULL, "{\"reason\":\"breach\"}", 200, "durability"},
    {"POST /v1/tenants/acme/logout-all", ACME, NULL, "{\"reason\":\"No\"}", 400, "must be"},
    {"POST /v1/login/verify", ACME, NULL, "{\"challenge_id\":\"sc_x\",\"code\":\"1\"}", 410,
     "challenge_over"},
    {"POST /v1/login/verify", ACME, NULL, "{\"challenge_id\":\"sc_x\"}", 400,
     "The answer is missing"},
    {"POST /v1/login/verify", ACME, NULL,
     "{\"challenge_id\":\"sc_x\",\"code\":\"1\",\"verified\":true}", 400, "two ways"},
    {"POST /v1/login/verify", ACME, NULL, "{\"challenge_id\":\"x\",\"code\":\"1\",\"cookie\":true}",
     410, "challenge_over"},
};

START_TEST(what_services_may_call)
{
    assert_row(&services[_i]);
}
END_TEST

static const struct row questions[] = {
    {"POST /v1/explain", ACME, NULL, "{\"token\":\"$A\"}", 200,
     "\"kind\":\"access\",\"active\":true"},
    {"POST /v1/explain", PLATFORM, NULL, "{\"token\":\"$A\"}", 200, "\"source\":\"redis\""},
    {"POST /v1/explain", PLATFORM, NULL, "{\"token\":\"$R\"}", 200, "\"kind\":\"refresh\""},
    {"POST /v1/explain", ACME, NULL, "{\"token\":\"sa_x\"}", 200, "\"active\":false"},
    {"POST /v1/explain?tenant=other", PLATFORM, NULL, "{\"token\":\"$A\"}", 200, "\"active\""},
    {"POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\"}", 200, "\"kind\":\"user\""},
    {"POST /v1/explain", PLATFORM, NULL, "{\"user_id\":\"alice\"}", 400, "is missing"},
    {"POST /v1/explain", PLATFORM, NULL, "{\"user_id\":\"alice\",\"tenant\":\"acme\"}", 200,
     "\"user\""},
    {"POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\",\"session_id\":\"$I\"}", 200,
     "\"last_seen_at\""},
    {"POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\",\"session_id\":\"zzzzzzzzzzzzzzzz\"}",
     400, "session_id"},
    {"POST /v1/explain", ACME, NULL, "{}", 400, "is missing"},
    {"POST /v1/explain", ACME, NULL, "{\"token\":\"$A\",\"user_id\":\"alice\"}", 400, "two ways"},
    {"POST /v1/explain", ACME, NULL, "{\"token\":\"$A\",\"session_id\":\"$I\"}", 400, "two ways"},
    {"POST /v1/explain?tenant=acme", PLATFORM, NULL, "{\"token\":\"$A\",\"tenant\":\"other\"}", 400,
     "names another"},
};

START_TEST(what_is_the_matter_with_a_token)
{
    assert_row(&questions[_i]);
}
END_TEST

/* --- OAuth --- */

#define FORM       "Content-Type: application/x-www-form-urlencoded\r\n"
#define BASIC      "Authorization: Basic "
#define INTROSPECT "POST /oauth2/introspect"
/* acme:sk_acme, ac%6de:sk%5Facme, other:sk_acme, acme:sk_wrong, reader:sk_reader, no colon */
#define BASIC_ACME    BASIC "YWNtZTpza19hY21l\r\n"
#define BASIC_ENCODED BASIC "YWMlNmRlOnNrJTVGYWNtZQ==\r\n"
#define BASIC_NAME    BASIC "b3RoZXI6c2tfYWNtZQ==\r\n"
#define BASIC_KEY     BASIC "YWNtZTpza193cm9uZw==\r\n"
#define BASIC_READER  BASIC "cmVhZGVyOnNrX3JlYWRlcg==\r\n"
#define BASIC_ODD     BASIC "YWNtZQ==\r\n"

static const struct row introspections[] = {
    {INTROSPECT, ACME, FORM, "token=$A", 200, "{\"active\":true,\"sub\":\"alice\","},
    {INTROSPECT, PLATFORM, FORM, "token=$A", 200, "\"client_id\":\"acme\""},
    {INTROSPECT, NULL, FORM BASIC_ACME, "token=$A", 200, "\"active\":true"},
    {INTROSPECT, NULL, FORM BASIC_ENCODED, "token=$A", 200, "\"active\":true"},
    {INTROSPECT, NULL, FORM "Authorization: basic YWNtZTpza19hY21l\r\n", "token=$A", 200,
     "\"active\":true"},
    {INTROSPECT, NULL, FORM, "token=$A&client_id=acme&client_secret=sk_acme", 200,
     "\"active\":true"},
    {INTROSPECT, NULL, FORM, "client_secret=sk%5facme&token=$A&client_id=ac%6de", 200,
     "\"active\":true"},
    {INTROSPECT, NULL,
     "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n" BASIC_ACME, "token=$A",
     200, "\"active\":true"},
    {INTROSPECT, ACME, FORM, "token=$A", 200, "Pragma: no-cache"},
    {INTROSPECT, ACME, FORM, "token=$A&token_type_hint=nonsense&odd=1", 200, "\"active\":true"},
    {INTROSPECT, ACME, FORM, "token=$A&touch=false&ip=192.0.2.1&device_fingerprint=x", 200,
     "\"active\":true"},
    {INTROSPECT, ACME, FORM, "token=$A&touch=no", 400, "'touch' must be true or false"},
    {INTROSPECT, ACME, FORM, "token=$A&max_age=-1", 400, "'max_age' must be a number"},
    {INTROSPECT, ACME, FORM, "token=$A&max_age=x", 400, "'max_age' must be a number"},
    {INTROSPECT, ACME, FORM, "token=$A&acr=a+b", 400, "'acr' must be"},
    /* not active, whatever the cause */
    {INTROSPECT, ACME, FORM, "token=$A&max_age=60", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=$A&acr=silver", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=$R", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=sk_acme", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=sc_x", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=eyJhbGciOiJFUzI1NiJ9.e30.c2ln", 200, "{\"active\":false}"},
    {INTROSPECT, ACME, FORM, "token=%00%ff+", 200, "\r\n\r\n{\"active\":false}"},
    {INTROSPECT, OTHER, FORM, "token=$A", 200, "\r\n\r\n{\"active\":false}"},
    /* no client */
    {INTROSPECT, NULL, FORM, "token=$A", 401, "{\"error\":\"invalid_client\","},
    {INTROSPECT, NULL, FORM, "token=$A", 401, "WWW-Authenticate: Basic realm=\"sessiond\"\r\n"},
    {INTROSPECT, NULL, FORM, "token=$A&client_id=acme", 401, "invalid_client"},
    {INTROSPECT, NULL, FORM BASIC_NAME, "token=$A", 401, "WWW-Authenticate: Basic"},
    {INTROSPECT, NULL, FORM BASIC_KEY, "token=$A", 401, "invalid_client"},
    {INTROSPECT, NULL, FORM BASIC_ODD, "token=$A", 401, "must be the base64 of NAME:KEY"},
    {INTROSPECT, NULL, FORM BASIC "!\r\n", "token=$A", 401, "must be the base64"},
    {INTROSPECT, NULL, FORM, "token=$A&client_id=other&client_secret=sk_acme", 401,
     "invalid_client"},
    {INTROSPECT, NULL, FORM, "token=$A&client_id=acme&client_secret=sk_wrong", 401,
     "invalid_client"},
    {INTROSPECT, "sk_wrong", FORM, "token=$A", 401, "WWW-Authenticate: Bearer"},
    {INTROSPECT, "$A", FORM, "token=$A", 401, "WWW-Authenticate: Bearer"},
    {INTROSPECT, NULL, FORM BASIC_READER, "token=$A", 403, "unauthorized_client"},
    {INTROSPECT, READER, FORM, "token=$A", 403, "insufficient_scope"},
    /* wrong forms */
    {INTROSPECT, ACME, FORM, "token=$A&client_id=acme&client_secret=sk_acme", 400, "came twice"},
    {INTROSPECT, NULL, FORM BASIC_ACME, "token=$A&client_id=acme&client_secret=sk_acme", 400,
     "{\"error\":\"invalid_request\","},
    {INTROSPECT, NULL, FORM, "token=$A&client_secret=sk_acme", 400, "client_id is missing"},
    {INTROSPECT, ACME, FORM, "token=$A&token=$A", 400, "'token' came twice"},
    {INTROSPECT, ACME, FORM, "token=%4", 400, "invalid_request"},
    {INTROSPECT, ACME, FORM, "token_type_hint=access_token", 400, "'token' is missing"},
    {INTROSPECT, ACME, FORM, "token=", 400, "'token' is missing"},
    {INTROSPECT, ACME, NULL, NULL, 400, "'token' is missing"},
    {INTROSPECT "?token=$A", ACME, FORM, "token=$A", 400, "invalid_request"},
    {INTROSPECT, ACME, NULL, "{\"token\":\"$A\"}", 415, "{\"error\":\"invalid_request\","},
    {INTROSPECT, ACME, "Content-Type: application/x-www-form-urlencoded; charset=latin1\r\n",
     "token=$A", 415, "invalid_request"},
    {INTROSPECT, ACME, "Content-Type: multipart/form-data; boundary=x\r\n", "--x", 415,
     "invalid_request"},
    {"GET /oauth2/introspect", ACME, NULL, NULL, 405, "{\"error\":\"invalid_request\","},
    {INTROSPECT, ACME, "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", NULL, 400,
     "{\"error\":\"invalid_request\","},
};

#define REVOKE  "POST /oauth2/revoke"
#define REFRESH "POST /oauth2/token"
#define GRANT   "grant_type=refresh_token&refresh_token="

static const struct row grants[] = {
    {REVOKE, NULL, FORM, "token=$A", 200, "\r\n\r\n{}"},
    {REVOKE, NULL, FORM, "token=$R&token_type_hint=odd&client_id=any", 200, "Pragma: no-cache"},
    {REVOKE, ACME, FORM, "token=$A", 200, "\r\n\r\n{}"},
    {REVOKE, PLATFORM, FORM, "token=$A", 200, "\r\n\r\n{}"},
    {REVOKE, NULL, FORM BASIC_ACME, "token=$A", 200, "\r\n\r\n{}"},
    {REVOKE, NULL, FORM, "token=sa_nothing", 200, "\r\n\r\n{}"},
    {REVOKE, NULL, FORM, "token=%00", 200, "\r\n\r\n{}"},
    {REVOKE, NULL, FORM, "token=eyJhbGciOiJFUzI1NiJ9.e30.c2ln", 400, "unsupported_token_type"},
    {REVOKE, NULL, FORM, "token=sk_0123456789012345678901234567890123456789012", 400,
     "unsupported_token_type"},
    {REVOKE, NULL, FORM, "token_type_hint=access_token", 400, "'token' is missing"},
    {REVOKE, NULL, FORM, "token=$A&token=$R", 400, "'token' came twice"},
    {REVOKE "?token=$A", NULL, FORM, "token=$A", 400, "invalid_request"},
    {REVOKE, NULL, NULL, "{\"token\":\"$A\"}", 415, "invalid_request"},
    {REVOKE, "sk_wrong", FORM, "token=$A", 401, "invalid_client"},
    {REVOKE, NULL, FORM, "token=$A&client_id=acme&client_secret=sk_wrong", 401, "invalid_client"},
    {REVOKE, OTHER, FORM, "token=$A", 403, "unauthorized_client"},
    {REFRESH, NULL, FORM, GRANT "$R", 200, "{\"access_token\":\"sa_"},
    {REFRESH, NULL, FORM, GRANT "$R&client_id=any&scope=x", 200, "Pragma: no-cache"},
    {REFRESH, ACME, FORM, GRANT "$R&ip=192.0.2.1&device_fingerprint=finger", 200, "\"sr_"},
    {REFRESH, NULL, FORM BASIC_ACME, GRANT "$R", 200, "\"token_type\":\"Bearer\""},
    {REFRESH, NULL, FORM, GRANT "sr_no", 400, "{\"error\":\"invalid_grant\","},
    {REFRESH, NULL, FORM, GRANT "$A", 400, "invalid_grant"},
    {REFRESH, OTHER, FORM, GRANT "$R", 400, "invalid_grant"},
    {REFRESH, NULL, FORM, "grant_type=refresh_token", 400, "'refresh_token' is missing"},
    {REFRESH, NULL, FORM, "refresh_token=$R", 400, "'grant_type' is missing"},
    {REFRESH, NULL, FORM, "grant_type=password&refresh_token=$R", 400, "unsupported_grant_type"},
    {REFRESH, NULL, FORM, "grant_type=Refresh_token&refresh_token=$R", 400,
     "unsupported_grant_type"},
    {REFRESH, NULL, FORM, GRANT "$R&refresh_token=$R", 400, "came twice"},
    {REFRESH, NULL, NULL, "{\"refresh_token\":\"$R\"}", 415, "invalid_request"},
    {REFRESH, READER, FORM, GRANT "$R", 403, "unauthorized_client"},
    {REFRESH, NULL, FORM, GRANT "$R&client_id=acme&client_secret=no", 401, "invalid_client"},
    {"GET /.well-known/oauth-authorization-server", NULL, NULL, NULL, 404, "no oauth.issuer"},
    {"GET /.well-known/openid-configuration", NULL, NULL, NULL, 404, "no oauth.issuer"},
};

START_TEST(what_oauth_clients_may_end_and_renew)
{
    assert_row(&grants[_i]);
}
END_TEST

START_TEST(what_oauth_clients_may_ask)
{
    assert_row(&introspections[_i]);
}
END_TEST

static const struct row forms[] = {
    {"GET /nowhere", NULL, NULL, NULL, 404, "not_found"},
    {"POST /v1/devices", NULL, NULL, NULL, 405, "Allow: GET"},
    {"PATCH /v1/validate", NULL, NULL, NULL, 405, "Allow: "},
    {"GET /v1/../validate", NULL, NULL, NULL, 400, "segment . or .."},
    {"GET /v1/validate?a=\x01", NULL, NULL, NULL, 400, "bad_request"},
    {"GET /v1/validate?odd=1", "$A", NULL, NULL, 400, "known are: tenant"},
    {"DELETE /v1/devices/$2?odd=1", "$A", NULL, NULL, 400, "known are: tenant, reason"},
    {"GET /v1/tenants/acme/policy?odd=1", ACME, NULL, NULL, 400, "this call takes none"},
    {"GET /v1/validate?tenant", "$A", NULL, NULL, 400, "has no value"},
    {"GET /v1/validate?tenant=a&tenant=b", "$A", NULL, NULL, 400, "came twice"},
    {"GET /v1/validate?", "$A", NULL, NULL, 200, "\"active\""},
    {"GET http://api.test/v1/validate", "$A", NULL, NULL, 200, "\"active\""},
    {"GET /v1/validate", "$A", NULL, "{}", 400, "takes no body"},
    {"GET /v1/validate", "$A", "X-Request-Id: my-own-1\r\n", NULL, 200, "X-Request-Id: my-own-1"},
    {"GET /v1/validate", "$A",
     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", NULL, 200,
     "\"active\""},
    {"GET /v1/validate", "$A", "X-Device-Fingerprint: finger\r\nUser-Agent: x\r\n", NULL, 200,
     "\"active\""},
    {"GET /v1/validate", "$A", "X-Device-Fingerprint: \r\n", NULL, 200, "\"active\""},
    {"POST /v1/logout", "$A", "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", NULL, 400,
     "bad_request"},
    {"GET /problems/token_invalid", NULL, NULL, NULL, 200, "<h1>token_invalid</h1>"},
    {"GET /problems/store_unavailable", NULL, NULL, NULL, 200, "try again after"},
    {"GET /problems/none", NULL, NULL, NULL, 404, "There is no such error code"},
    {"HEAD /problems/forbidden", NULL, NULL, NULL, 200, "Content-Length"},
};

START_TEST(what_a_call_must_look_like)
{
    assert_row(&forms[_i]);
}
END_TEST

/* --- browsers --- */

#define COOKIE "Cookie: __Host-session=$A\r\n"
#define PAGE   "https://app.test"

static const struct row pages[] = {
    {"GET /v1/validate", NULL, COOKIE, NULL, 200, "X-Content-Type-Options: nosniff"},
    {"GET /v1/validate", NULL, "Cookie: a=b; __Host-session=$A; c\r\n", NULL, 200, "\"active\""},
    {"GET /v1/validate", NULL, "Cookie: __Host-session=$A; __Host-session=$A\r\n", NULL, 400,
     "more than once"},
    {"GET /v1/validate", NULL, "Cookie: a=b\r\n", NULL, 401, "or the session cookie"},
    {"GET /v1/validate", NULL, COOKIE "Authorization: Basic eDp5\r\n", NULL, 200, "\"active\""},
    {"GET /v1/validate", NULL, "Authorization: Bearer\r\n", NULL, 401, "must be of the form"},
    {"GET /v1/validate", NULL, "Authorization: $A\r\n", NULL, 401, "must be of the form"},
    {"DELETE /v1/devices/$2", NULL, COOKIE, NULL, 403, "needs an Origin header"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Origin: https://api.test\r\n", NULL, 200,
     "\"ended\":1"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Origin: http://api.test\r\n", NULL, 403, "neither in"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Origin: " PAGE "\r\n", NULL, 200, "\"ended\":1"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Origin: https://evil.test\r\n", NULL, 403, "evil.test"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Sec-Fetch-Site: same-origin\r\n", NULL, 200,
     "\"ended\""},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Sec-Fetch-Site: cross-site\r\n", NULL, 403,
     "origin_forbidden"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Sec-Fetch-Site: same-origin\r\nOrigin: null\r\n", NULL,
     200, "\"ended\""},
    {"DELETE /v1/devices/$2", NULL, COOKIE "Origin: null\r\n", NULL, 403, "origin_forbidden"},
    {"DELETE /v1/devices/$2", NULL, COOKIE "X-Forwarded-Proto: http\r\nOrigin: http://api.test\r\n",
     NULL, 403, "origin_forbidden"},
    {"POST /v1/logout", NULL, COOKIE "Origin: " PAGE "\r\n", NULL, 200, "Max-Age=0"},
    {"POST /v1/refresh", NULL, "Origin: https://evil.test\r\n",
     "{\"refresh_token\":\"$R\",\"cookie\":true}", 403, "origin_forbidden"},
    {"POST /v1/refresh", NULL, "Origin: " PAGE "\r\n", "{\"refresh_token\":\"$R\",\"cookie\":true}",
     200, "Access-Control-Allow-Credentials: true"},
    {"GET /v1/validate", "$A", "Origin: " PAGE "\r\n", NULL, 200,
     "Access-Control-Allow-Origin: " PAGE},
    {"GET /v1/validate", "$A", "Origin: https://evil.test\r\n", NULL, 200, "Vary: Origin\r\n"},
    {"OPTIONS /v1/validate", NULL, "Origin: " PAGE "\r\nAccess-Control-Request-Method: GET\r\n",
     NULL, 204, "X-More, Y-More\r\n"},
    {"OPTIONS /v1/validate", NULL,
     "Origin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\n", NULL, 403,
     "origin_forbidden"},
    {"OPTIONS /v1/validate", NULL, "Origin: " PAGE "\r\n", NULL, 405, "method_not_allowed"},
    {"OPTIONS /v1/validate", NULL, NULL, NULL, 405, "method_not_allowed"},
    {"OPTIONS /nowhere", NULL, "Origin: " PAGE "\r\nAccess-Control-Request-Method: GET\r\n", NULL,
     404, "not_found"},
    {"OPTIONS *", NULL, NULL, NULL, 204, ""},
};

START_TEST(what_pages_may_do)
{
    static char *origins[] = {"https://other.test", PAGE}, *headers[] = {"X-More", "Y-More"};
    const struct conf_list none = {0};
    rig.conf->browser_origins = (struct conf_list){origins, 2};
    rig.conf->browser_headers = (struct conf_list){headers, 2};
    assert_row(&pages[_i]);
    rig.conf->browser_origins = rig.conf->browser_headers = none;
}
END_TEST

static const struct row without_cookies[] = {
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":\"$R\",\"cookie\":true}", 400,
     "browser.cookie = no"},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\",\"cookie\":true}", 400,
     "browser.cookie = no"},
    {"POST /v1/login/verify", ACME, NULL, "{\"challenge_id\":\"x\",\"code\":\"1\",\"cookie\":true}",
     400, "browser.cookie = no"},
    {"GET /v1/validate", NULL, COOKIE, NULL, 401, "needs Authorization: Bearer <credential>\""},
    {"GET /v1/validate", "$A", COOKIE, NULL, 200, "\"active\""},
};

START_TEST(where_there_is_no_cookie)
{
    rig.conf->browser_cookie = false;
    assert_row(&without_cookies[_i]);
}
END_TEST

/* --- what is over a limit --- */

static const struct row often[] = {
    {"GET /v1/validate", "$A", NULL, NULL, 200, "RateLimit"},
    {"POST /v1/validate", ACME, NULL, "{\"token\":\"$A\"}", 200, "\"tenant\";r="},
    {"POST /v1/validate", READER, NULL, "{\"token\":\"$A\"}", 200, "\"tenant\";r="},
    {"GET " USER "?tenant=acme", PLATFORM, NULL, NULL, 200, "\"tenant\";r="},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\"}", 201, "\"logins\";r="},
};

/* The node must have heard of the policy. */
START_TEST(whoever_calls_too_often_is_told_to_wait)
{
    const struct row *row = &often[_i];
    ck_assert_act(act_policy(served.peer, "{\"rate\":{\"requests_per_second\":3,\"burst\":3,"
                                          "\"logins_per_user_per_minute\":2}}"),
                  ERR_OK);
    ck_assert_int_eq(rig_validate(served.node, &alice), ERR_OK);
    assert_row(row);
    const char *answer = "";
    for (int i = 0; i < 20 && !strstr(answer, "HTTP/1.1 429"); i++)
        answer = call(row->line, row->credential, row->headers, row->body);
    assert_answer(answer, 429, "Retry-After");
}
END_TEST

START_TEST(whoever_comes_with_what_was_never_issued_is_told_to_wait)
{
    static const struct row rows[] = {
        {"GET /v1/validate", "sa_x", NULL, NULL, 401, "token_invalid"},
        {"POST /v1/logout", "sa_x", NULL, NULL, 200, "\"ended\":0"},
        {"POST /v1/validate", READER, NULL, "{\"token\":\"sa_x\",\"ip\":\"2001:db8::1\"}", 200,
         "malformed"},
        {"POST /v1/login", "sk_wrong", "X-Forwarded-For: 192.0.2.5\r\n", "{}", 401, "key_invalid"},
    };
    static char *proxies[] = {"unix"};
    const struct conf_list none = {0};
    rig.conf->server_trusted_proxies = (struct conf_list){proxies, 1};
    rig.conf->limits_wrong_keys_per_minute = rig.conf->limits_forged_tokens_per_minute = 2;
    worker_reload(&served.worker);
    http_run();
    struct row row = rows[_i];
    if (!row.headers)
        row.headers = "X-Forwarded-For: 2001:db8::1\r\n";
    assert_row(&row);
    assert_row(&row);
    row.status = 429;
    row.part = "Too many";
    assert_row(&row);
    rig.conf->server_trusted_proxies = none;
}
END_TEST

/* --- without Redis --- */

static const struct row outages[] = {
    {"GET /v1/validate", "$A", NULL, NULL, 200, "X-Session-Stale: "},
    {"POST /v1/validate", READER, NULL, "{\"token\":\"$A\"}", 200, "\"stale\":true,\"stale_for\":"},
    {"POST /v1/refresh", NULL, NULL, "{\"refresh_token\":\"$R\"}", 503, "Retry-After"},
    {"POST /v1/login", ACME, NULL, "{\"user_id\":\"bob\"}", 503, "store_unavailable"},
    {"DELETE " USER "/devices/$2", ACME, NULL, NULL, 202, "\"durability\":\"pending\""},
    {"DELETE " USER "/devices/$2?tenant=acme", PLATFORM, NULL, NULL, 202, "\"tenant\":\"acme\""},
    {"POST " USER "/freeze", ACME, NULL, NULL, 202, "\"pending\""},
    {"POST /v1/logout", "$A", NULL, NULL, 202, "\"pending\""},
    {"GET /v1/devices", "$A", NULL, NULL, 503, "store_unavailable"},
    {"GET " USER, ACME, NULL, NULL, 503, "store_unavailable"},
    {"GET " USER "/history", ACME, NULL, NULL, 503, "store_unavailable"},
    {"GET /v1/tenants/acme/sessions", ACME, NULL, NULL, 503, "store_unavailable"},
    {"PUT /v1/tenants/acme/policy", ACME, NULL, "{}", 503, "store_unavailable"},
    {"POST /v1/explain", ACME, NULL, "{\"token\":\"$A\"}", 200,
     "\"says\":\"unavailable\",\"code\":"},
    {"POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\"}", 503, "store_unavailable"},
};

START_TEST(what_is_said_without_redis)
{
    assert_row(&users[0]);
    rig_watch(served.node, false);
    clock_fake_pass(3000);
    rig.fate = FATE_AWAY;
    assert_row(&outages[_i]);
    rig.fate = FATE_ANSWER;
}
END_TEST

/* --- courses --- */

static void put_policy(const char *json)
{
    ck_assert_act(act_policy(served.peer, json), ERR_OK);
    http_run();
}

START_TEST(what_was_ended_is_told_by_whom_and_why)
{
    assert_answer(call("DELETE " USER "/devices/$I", ACME, "X-Operator: eve\r\n", NULL), 200,
                  "\"ended\":1");
    assert_answer(
        call("POST /v1/validate", READER, NULL, "{\"token\":\"$A\"}"), 200,
        "\"active\":false,\"reason\":\"kicked\",\"ended_at\":1800000000,\"actor\":\"eve\"");
    assert_answer(call("GET /v1/validate", "$A", NULL, NULL), 401, "\"reason\":\"kicked\"");
    assert_answer(call("GET " USER "/history", ACME, NULL, NULL), 200, "\"actor\":\"eve\"");
    assert_answer(call("POST /v1/explain", ACME, NULL, "{\"token\":\"$A\"}"), 200,
                  "\"says\":\"dead\"");
    assert_answer(call("POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\"}"), 200,
                  "\"actor\":\"eve\"");
}
END_TEST

START_TEST(a_frozen_user_is_shown_as_frozen)
{
    assert_answer(
        call("POST " USER "/freeze", ACME, NULL, "{\"reason\":\"fraud\",\"until\":1800000060}"),
        200, "\"durability\"");
    assert_answer(call("GET " USER, ACME, NULL, NULL), 200,
                  "\"frozen_reason\":\"fraud\",\"until\":1800000060");
    assert_answer(call("POST /v1/login", ACME, NULL, "{\"user_id\":\"alice\"}"), 423,
                  "account_frozen");
    assert_answer(call("POST /v1/explain", ACME, NULL, "{\"token\":\"$A\"}"), 200,
                  "\"frozen\":true");
    assert_answer(call("POST /v1/explain", ACME, NULL, "{\"user_id\":\"alice\"}"), 200,
                  "\"until\":1800000060");
    assert_answer(call("POST " USER "/unfreeze", ACME, NULL, NULL), 200, "\"ended\":0");
    assert_answer(call("GET " USER, ACME, NULL, NULL), 200, "\"frozen\":false");
}
END_TEST

START_TEST(who_has_too_many_devices_is_told_which)
{
    put_policy("{\"max_devices\":2,\"overflow\":\"reject\"}");
    assert_answer(call("POST /v1/login", ACME, NULL, "{\"user_id\":\"alice\"}"), 409,
                  "\"limit\":2,\"devices\":[");
}
END_TEST

START_TEST(a_second_verification_has_its_answers)
{
    static const char *const codes[] = {"external", "otp"};
    char policy[128], body[256];
    bool otp = _i;
    snprintf(policy, sizeof(policy), "{\"verify\":{\"on\":[\"new_device\"],\"method\":\"%s\"}}",
             codes[_i]);
    put_policy(policy);
    const char *answer =
        call("POST /v1/login", ACME, NULL,
             "{\"user_id\":\"alice\",\"device\":{\"id\":\"another\"},\"cookie\":true}");
    assert_answer(answer, 403, otp ? "\"otp\":\"" : "\"method\":\"external\"");
    char id[TOKEN_LENGTH + 1], code[CHALLENGE_CODE + 1] = "";
    snprintf(id, sizeof(id), "%s", strstr(answer, "\"challenge_id\":\"") + 16);
    if (otp)
        snprintf(code, sizeof(code), "%s", strstr(answer, "\"otp\":\"") + 7);
    snprintf(body, sizeof(body), "{\"challenge_id\":\"%s\",%s}", id,
             otp ? "\"code\":\"x\"" : "\"verified\":false");
    assert_answer(call("POST /v1/login/verify", ACME, NULL, body), 403, "\"attempts_left\":");
    snprintf(body, sizeof(body), "{\"challenge_id\":\"%s\",%s%s%s}", id,
             otp ? "\"code\":\"" : "\"verified\":true", code, otp ? "\"" : "");
    assert_answer(call("POST /v1/login/verify", ACME, NULL, body), 201, "\"set_cookie\"");
}
END_TEST

START_TEST(a_session_that_is_used_elsewhere_is_verified)
{
    char id[TOKEN_LENGTH + 1], body[256];
    put_policy("{\"bind\":{\"ip\":\"verify\"},\"verify\":{\"method\":\"external\"}}");
    const char *answer =
        call("POST /v1/validate", ACME, NULL, "{\"token\":\"$A\",\"ip\":\"198.51.100.1\"}");
    assert_answer(answer, 200, "\"active\":false,\"reason\":\"verification_required\"");
    snprintf(id, sizeof(id), "%s", strstr(answer, "\"challenge_id\":\"") + 16);
    snprintf(body, sizeof(body), "{\"challenge_id\":\"%s\",\"verified\":true,\"cookie\":true}", id);
    assert_answer(call("POST /v1/login/verify", ACME, NULL, body), 200, "\"verified\":true");
}
END_TEST

START_TEST(a_policy_keeps_users_from_what_they_may_do_themselves)
{
    put_policy("{\"self_service\":{\"kick\":false,\"logout_all\":false,\"devices\":false}}");
    assert_answer(call("GET /v1/devices", "$A", NULL, NULL), 403, "forbidden");
    assert_answer(call("DELETE /v1/devices/$2", "$A", NULL, NULL), 403, "forbidden");
    assert_answer(call("POST /v1/logout-all", "$A", NULL, NULL), 403, "forbidden");
    assert_answer(call("GET /v1/devices", ACME, "X-Session-Token: $A\r\n", NULL), 200,
                  "\"total\":2");
}
END_TEST

/* --- operations --- */

static const struct row ops[] = {
    {"GET /livez", NULL, NULL, NULL, 200, "{\"status\":\"pass\"}"},
    {"GET /readyz", NULL, NULL, NULL, 200,
     "\"node\":\"[2001:db8::1]:6379\",\"breaker\":\"half_open\""},
    {"GET /metrics", NULL, NULL, NULL, 200, "text/plain; version=0.0.4"},
    {"GET /version", NULL, NULL, NULL, 200, "\"name\":\"sessiond\""},
    {"GET /v1/validate", NULL, NULL, NULL, 404, "not_found"},
    {"OPTIONS /livez", NULL, "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n",
     NULL, 405, "Allow: "},
};

START_TEST(what_operators_are_told)
{
    http_serve_ops();
    http_nodes[0] = (struct store_node_health){
        .host = "2001:db8::1", .port = 6379, .breaker = BREAKER_HALF_OPEN};
    http_nodes[1] = (struct store_node_health){.host = "192.0.2.1", .port = 6379, .tracked = true};
    assert_row(&ops[_i]);
}
END_TEST

static void lose_map(void)
{
    http_health.was_whole = false;
}

static void find_half_a_map(void)
{
    http_health.was_whole = false;
    http_health.slots_covered = 100;
    strcpy(http_health.error, "192.0.2.1:6379: NOPERM");
}

static void lose_slots(void)
{
    http_health.slots_covered = 16000;
}

static void get_nothing_through(void)
{
    http_health.serving = false;
    strcpy(http_health.problems, "192.0.2.1:6379: refused");
}

static void get_silence(void)
{
    http_health.serving = false;
}

static void meet_a_stranger(void)
{
    strcpy(http_health.foreign, "192.0.2.1:6379: not ours");
}

static void meet_stranger_and_silence(void)
{
    meet_a_stranger();
    http_health.serving = false;
}

static void be_refused(void)
{
    strcpy(http_health.error, "192.0.2.1:6379: NOPERM");
}

static void find_a_fault(void)
{
    strcpy(http_health.fault, "192.0.2.1:6379: evicts keys");
}

static void ask_no_time(void)
{
    http_health.time_asked = false;
}

static void be_told_to_stop(void)
{
    atomic_store(&served.server.draining, true);
}

static void disagree_about_time(void)
{
    clock_dispute(0);
}

static void set_clock_ahead(void)
{
    clock_agree(clock_host_ahead_ms() - 5000);
}

static void set_clock_behind(void)
{
    clock_agree(clock_host_ahead_ms() + 5000);
}

static const struct {
    void (*happens)(void);
    unsigned status;
    const char *part;
} moods[] = {
    {lose_map, 503, "Redis was not reached since the start; no server has answered yet"},
    {find_half_a_map, 503,
     "never had a whole slot map: 16284 of 16384 slots have no master; 192.0.2.1"},
    {lose_slots, 200, "\"384 of 16384 slots have no master"},
    {get_nothing_through, 200, "no call gets through to Redis; 192.0.2.1:6379: refused"},
    {get_silence, 200, "no call gets through to Redis\""},
    {meet_a_stranger, 200, "a server belongs to another Redis"},
    {meet_stranger_and_silence, 200, "no call gets through to Redis; 192.0.2.1:6379: not ours"},
    {be_refused, 200, "Redis refuses calls; 192.0.2.1:6379: NOPERM"},
    {find_a_fault, 200, "evicts keys"},
    {ask_no_time, 503, "the time of Redis is not known yet"},
    {be_told_to_stop, 503, "draining"},
    {disagree_about_time, 200, "no majority"},
    {set_clock_ahead, 200, "5000 ms ahead of that of"},
    {set_clock_behind, 200, "5000 ms behind that of"},
};

START_TEST(a_node_that_is_not_well_says_why)
{
    http_serve_ops();
    moods[_i].happens();
    assert_answer(call("GET /readyz", NULL, NULL, NULL), moods[_i].status, moods[_i].part);
}
END_TEST

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("http_api");
    TCase *cases = tcase_create("calls");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 40);
    tcase_add_loop_test(cases, what_users_may_call, 0, COUNT(users));
    tcase_add_loop_test(cases, what_services_may_call, 0, COUNT(services));
    tcase_add_loop_test(cases, what_is_the_matter_with_a_token, 0, COUNT(questions));
    tcase_add_loop_test(cases, what_oauth_clients_may_end_and_renew, 0, COUNT(grants));
    tcase_add_loop_test(cases, what_oauth_clients_may_ask, 0, COUNT(introspections));
    tcase_add_loop_test(cases, what_a_call_must_look_like, 0, COUNT(forms));
    tcase_add_loop_test(cases, what_pages_may_do, 0, COUNT(pages));
    tcase_add_loop_test(cases, where_there_is_no_cookie, 0, COUNT(without_cookies));
    tcase_add_loop_test(cases, whoever_calls_too_often_is_told_to_wait, 0, COUNT(often));
    tcase_add_loop_test(cases, whoever_comes_with_what_was_never_issued_is_told_to_wait, 0, 4);
    tcase_add_loop_test(cases, what_is_said_without_redis, 0, COUNT(outages));
    tcase_add_test(cases, what_was_ended_is_told_by_whom_and_why);
    tcase_add_test(cases, a_frozen_user_is_shown_as_frozen);
    tcase_add_test(cases, who_has_too_many_devices_is_told_which);
    tcase_add_loop_test(cases, a_second_verification_has_its_answers, 0, 2);
    tcase_add_test(cases, a_session_that_is_used_elsewhere_is_verified);
    tcase_add_test(cases, a_policy_keeps_users_from_what_they_may_do_themselves);
    tcase_add_loop_test(cases, what_operators_are_told, 0, COUNT(ops));
    tcase_add_loop_test(cases, a_node_that_is_not_well_says_why, 0, COUNT(moods));
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
