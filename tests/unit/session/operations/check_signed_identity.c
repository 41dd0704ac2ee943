/* Signed identities: what they state, for whom, for how long, and when a signature serves again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "metrics.h"
#include "support_keys.h"
#include "support_run.h"
#include "support_session.h"
#include "support_signature.h"

/* The scalar 1 and 2: their public keys are the base point of P-256 and its double. */
#define SIGN_2 "sign 2 0000000000000000000000000000000000000000000000000000000000000001\n"
#define SIGN_3 "sign 3 0000000000000000000000000000000000000000000000000000000000000002\n"
#define X      "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"
#define Y      "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"

#define ISSUER "https://login.example"

enum {
    NOW_S = RIG_NOW / 1000,
    SIGNED_S = NOW_S - 1 /* for clocks that are behind */,
    ANY_AGE = -1,
    TTL = 30
};

static struct rig_node *node;
static struct rig_session session;
static struct keyring *keyring;
static struct audience audience;
static char *words[2];
static struct signed_identity identity;

static void set_up(void)
{
    rig_set_up();
    free(rig.conf->oauth_issuer);
    rig.conf->oauth_issuer = strdup(ISSUER);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SIGN_2);
    node = rig_start_with(0, keyring);
    keyring_unref(&keyring);
    rig_watch(node, true);
    audience = (struct audience){
        .name = "billing", .tenant = "*", .max_age_s = ANY_AGE, .acr = "", .ttl_s = TTL};
}

/* Logs in with these roles. */
static struct rig_session login(const char *user, const char *first, const char *second)
{
    struct text roles[] = {text_of(first), text_of(second)};
    static char device[16];
    static int devices;
    snprintf(device, sizeof(device), "phone-%d", devices++); /* the same would replace a session */
    struct act *act = act_login(node, user, device);
    act->login.roles = roles;
    act->login.role_count = first ? second ? 2 : 1 : 0;
    ck_assert_act(act, ERR_OK);
    struct rig_session ret;
    memcpy(ret.access, act->login.pair.access_token, TOKEN_LENGTH);
    memcpy(ret.refresh, act->login.pair.refresh_token, TOKEN_LENGTH);
    memcpy(ret.id, act->base.facts.session_id.data, sizeof(ret.id));
    return ret;
}

static enum identity_verdict sign(void)
{
    struct act *act = act_validate(node, rig_access(&session));
    ck_assert_act(act, ERR_OK);
    return session_sign_identity(&act->validate, &audience, &identity);
}

/* Number of signatures that an act makes. */
#define SIGNATURES_OF(call)                                       \
    ({                                                            \
        int64_t before_ = metrics_read(METRIC_IDENTITIES_SIGNED); \
        ck_assert_int_eq(call, IDENTITY_SIGNED);                  \
        metrics_read(METRIC_IDENTITIES_SIGNED) - before_;         \
    })

/* A part of the JWT, decoded; NUL-terminated. */
static char *part_of(struct text jwt, int number)
{
    static char parts[3][4096];
    struct text part = text_take(&jwt, '.');
    for (int i = 0; i < number; i++)
        part = text_take(&jwt, '.');
    size_t length = part.length * 3 / 4;
    ck_assert_uint_lt(length, sizeof(parts[0]));
    ck_assert(text_from_base64url(parts[number], length, part));
    parts[number][length] = '\0';
    return parts[number];
}

static struct json_view *claims(void)
{
    struct buffer error = {0};
    struct json_view *view = json_view_open(text_of(part_of(identity.jwt, 1)), &error);
    ck_assert_msg(view != NULL, "%.*s", (int)error.length, error.data);
    return view;
}

static int64_t number_of(const char *name)
{
    int64_t number = 0;
    struct json_view *view = claims();
    ck_assert(json_view_int(json_view_member(view, name), &number));
    json_view_close(&view);
    return number;
}

static void assert_claim(const char *name, const char *expected)
{
    struct text text;
    struct json_view *view = claims();
    const struct json_view *member = json_view_member(view, name);
    ck_assert_msg(member != NULL, "no %s", name);
    ck_assert(json_view_text(member, &text));
    ck_assert_text_eq(text, expected);
    json_view_close(&view);
}

/* --- content --- */

START_TEST(an_identity_states_the_session_and_verifies)
{
    session = login("alice", "admin", "sales team");
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    char kid[SIGNING_KEY_ID + 1] = "", header[128], expected[512], jti[23];
    struct text id = signing_key_id(keyring_signer(node->context.keyring, 0));
    memcpy(kid, id.data, id.length);
    snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"%s\"}", kid);
    ck_assert_str_eq(part_of(identity.jwt, 0), header);
    const char *text = part_of(identity.jwt, 1);
    ck_assert_ptr_nonnull(strstr(text, "\"jti\":\""));
    snprintf(jti, sizeof(jti), "%.22s", strstr(text, "\"jti\":\"") + 7);
    snprintf(expected, sizeof(expected),
             "{\"iss\":\"" ISSUER "\",\"aud\":\"billing\",\"sub\":\"acme/alice\","
             "\"client_id\":\"acme\",\"tenant\":\"acme\",\"sid\":\"%.16s\",\"scope\":\"admin\","
             "\"roles\":[\"admin\",\"sales team\"],\"iat\":%d,\"exp\":%d,\"jti\":\"%s\"}",
             session.id, SIGNED_S, SIGNED_S + TTL, jti);
    ck_assert_str_eq(text, expected);
    ck_assert_int_eq(identity.expires_s, SIGNED_S + TTL);

    const char *last_dot = memrchr(identity.jwt.data, '.', identity.jwt.length);
    struct text input = {identity.jwt.data, (size_t)(last_dot - identity.jwt.data)};
    uint8_t signature[SIGNING_SIGNATURE];
    ck_assert(
        text_from_base64url(signature, sizeof(signature),
                            (struct text){last_dot + 1, identity.jwt.length - input.length - 1}));
    ck_assert(support_verifies(X, Y, input, signature));
}
END_TEST

START_TEST(an_audience_of_one_tenant_gets_the_plain_user_id)
{
    audience.tenant = "acme";
    session = login("al\"ice/\\x", NULL, NULL);
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    assert_claim("sub", "al\"ice/\\x");
    ck_assert_ptr_null(strstr(part_of(identity.jwt, 1), "scope"));
    audience.tenant = "*";
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    assert_claim("sub", "acme/al\"ice/\\x");
}
END_TEST

static const struct scope_case {
    const char *first, *second, *scope;
} scopes[] = {
    {"read", "write", "read write"},      {"a b", "write", "write"}, {"write", "a\"b", "write"},
    {"a\\b", "urn:x:y", "urn:x:y"},       {"caf\xc3\xa9", "x", "x"}, {"a/b~!", "[]", "a/b~! []"},
    {"\"],\"scope\":\"", "read", "read"}, {"a b", "c d", NULL},
};

START_TEST(scope_has_the_roles_that_are_scope_tokens)
{
    session = login("alice", scopes[_i].first, scopes[_i].second);
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    struct json_view *view = claims();
    if (scopes[_i].scope)
        assert_claim("scope", scopes[_i].scope);
    else
        ck_assert_ptr_null(json_view_member(view, "scope"));
    struct text role;
    const struct json_view *roles = json_view_member(view, "roles");
    ck_assert_uint_eq(json_view_count(roles), 2);
    ck_assert(json_view_text(json_view_item(roles, 0), &role));
    ck_assert_text_eq(role, scopes[_i].first);
    json_view_close(&view);
}
END_TEST

/* Logs in with an authentication: this long ago, of this class. */
static struct rig_session login_authenticated(int64_t ago_s, const char *acr)
{
    struct act *act = act_login(node, "alice", "tablet");
    act->login.authentication.auth_s = NOW_S - ago_s;
    act->login.authentication.acr = text_of(acr);
    act->login.authentication.amr = session_find_amr(TEXT("pwd")) | session_find_amr(TEXT("otp"));
    ck_assert_act(act, ERR_OK);
    struct rig_session ret;
    memcpy(ret.access, act->login.pair.access_token, TOKEN_LENGTH);
    return ret;
}

START_TEST(an_identity_states_how_the_user_has_authenticated)
{
    session = login_authenticated(60, "gold");
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    ck_assert_int_eq(number_of("auth_time"), NOW_S - 60);
    assert_claim("acr", "gold");
    struct json_view *view = claims();
    ck_assert_uint_eq(json_view_count(json_view_member(view, "amr")), 2);
    json_view_close(&view);
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    view = claims();
    ck_assert_ptr_null(json_view_member(view, "acr"));
    ck_assert_ptr_null(json_view_member(view, "amr"));
    json_view_close(&view);
}
END_TEST

/* --- conditions --- */

START_TEST(an_audience_may_demand_a_recent_and_strong_authentication)
{
    session = login_authenticated(60, "gold");
    audience.max_age_s = 60;
    audience.acr = "gold";
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    audience.acr = "platinum";
    ck_assert_int_eq(sign(), IDENTITY_TOO_WEAK);
    audience.acr = "";
    rig_pass(2000);
    ck_assert_int_eq(sign(), IDENTITY_TOO_WEAK);
}
END_TEST

START_TEST(the_session_must_meet_the_conditions_of_the_audience)
{
    session = login("alice", "staff", "a\"b");
    audience.tenant = "other";
    ck_assert_int_eq(sign(), IDENTITY_OF_OTHER_TENANT);
    audience.tenant = "acme";
    audience.roles = (struct conf_list){words, 1};
    words[0] = "admin";
    ck_assert_int_eq(sign(), IDENTITY_WITHOUT_ROLE);
    words[0] = "staf";
    ck_assert_int_eq(sign(), IDENTITY_WITHOUT_ROLE);
    audience.roles.count = 2;
    words[1] = "staff";
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    words[1] = "a\"b";
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    audience.max_age_s = 3600;
    ck_assert_int_eq(sign(), IDENTITY_TOO_WEAK);
    audience.max_age_s = ANY_AGE;
    audience.acr = "gold";
    ck_assert_int_eq(sign(), IDENTITY_TOO_WEAK);
}
END_TEST

START_TEST(a_ring_without_a_signing_key_signs_nothing)
{
    rig_stop(node);
    node = rig_start(0);
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(sign(), IDENTITY_WITHOUT_KEY);
}
END_TEST

/* --- lifetime --- */

START_TEST(an_identity_never_outlives_token_and_session)
{
    ck_assert_act(act_policy(node, "{\"access_ttl\":60}"), ERR_OK);
    session = login("alice", NULL, NULL);
    rig_pass(29000);
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    ck_assert_int_eq(number_of("exp"), SIGNED_S + 59);
    rig_pass(20000);
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    ck_assert_int_eq(number_of("iat"), SIGNED_S + 49);
    ck_assert_int_eq(number_of("exp"), NOW_S + 60);
    ck_assert_int_eq(identity.expires_s, NOW_S + 60);
}
END_TEST

/* The end of the session moves closer while a signature is in memory. */
START_TEST(a_signature_that_would_outlive_the_session_is_not_repeated)
{
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    rig_pass(10000);
    ck_assert_act(act_policy(node, "{\"access_ttl\":20,\"refresh_grace\":1}"), ERR_OK);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_int_eq(number_of("exp"), NOW_S + 20);
}
END_TEST

START_TEST(an_identity_ends_with_an_idle_session)
{
    ck_assert_act(act_policy(node, "{\"idle_timeout\":20}"), ERR_OK);
    session = login("alice", NULL, NULL);
    struct act *act = act_validate(node, rig_access(&session));
    act->validate.touch = false;
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(session_sign_identity(&act->validate, &audience, &identity), IDENTITY_SIGNED);
    ck_assert_int_eq(identity.expires_s, act->validate.idle_expires_s + 1);
    ck_assert_int_lt(identity.expires_s, NOW_S + TTL);
}
END_TEST

/* --- memory --- */

START_TEST(one_signature_serves_half_its_lifetime)
{
    session = login("alice", "admin", NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    struct text first = identity.jwt;
    int64_t repeated = metrics_read(METRIC_IDENTITIES_REPEATED);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 0);
    rig_pass(13000);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 0);
    ck_assert_int_eq(metrics_read(METRIC_IDENTITIES_REPEATED) - repeated, 2);
    ck_assert(text_equal(identity.jwt, first));
    rig_pass(1000);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert(!text_equal(identity.jwt, first));
    ck_assert_int_eq(number_of("iat"), SIGNED_S + 14);
}
END_TEST

START_TEST(another_statement_is_another_signature)
{
    session = login("alice", "admin", NULL);
    struct rig_session first = session;
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    audience.name = "shipping";
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    audience.tenant = "acme";
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    session = login("alice", "admin", NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    session = login("bob", "admin", NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    session = first;
    ck_assert_int_eq(sign(), IDENTITY_SIGNED);
    assert_claim("sub", "alice");
    ck_assert_int_eq(SIGNATURES_OF(sign()), 0);
    audience.ttl_s = 10;
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_int_eq(number_of("exp"), SIGNED_S + 10);
    audience.ttl_s = 1;
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_int_eq(number_of("iat"), NOW_S);
    ck_assert_int_eq(number_of("exp"), NOW_S + 1);
}
END_TEST

START_TEST(another_key_signs_again)
{
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    struct keyring *old = node->context.keyring;
    struct keyring *both = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SIGN_2 SIGN_3);
    keyring_succeed(both, old);
    node->context.keyring = both;
    ck_assert_int_eq(SIGNATURES_OF(sign()), 0);
    rig_pass(2 * 1000 * rig.conf->oauth_jwks_max_age - 1000);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    char before[256];
    snprintf(before, sizeof(before), "%s", part_of(identity.jwt, 0));
    rig_pass(1000);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_str_ne(part_of(identity.jwt, 0), before);
    node->context.keyring = old;
    keyring_unref(&both);
}
END_TEST

START_TEST(a_session_that_has_ended_gets_nothing_from_memory)
{
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    ck_assert_act(act_validate(node, rig_access(&session)), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(without_memory_each_answer_is_signed)
{
    rig.conf->oauth_identity_bytes = 0;
    session = login("alice", NULL, NULL);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
    ck_assert_int_eq(SIGNATURES_OF(sign()), 1);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("signed_identity");
    TCase *content = rig_case(suite, "content", set_up);
    tcase_add_test(content, an_identity_states_the_session_and_verifies);
    tcase_add_test(content, an_audience_of_one_tenant_gets_the_plain_user_id);
    tcase_add_loop_test(content, scope_has_the_roles_that_are_scope_tokens, 0, COUNT(scopes));
    tcase_add_test(content, an_identity_states_how_the_user_has_authenticated);
    tcase_add_test(content, an_audience_may_demand_a_recent_and_strong_authentication);
    tcase_add_test(content, the_session_must_meet_the_conditions_of_the_audience);
    tcase_add_test(content, a_ring_without_a_signing_key_signs_nothing);
    TCase *lifetime = rig_case(suite, "lifetime", set_up);
    tcase_add_test(lifetime, an_identity_never_outlives_token_and_session);
    tcase_add_test(lifetime, a_signature_that_would_outlive_the_session_is_not_repeated);
    tcase_add_test(lifetime, an_identity_ends_with_an_idle_session);
    TCase *memory = rig_case(suite, "memory", set_up);
    tcase_add_test(memory, one_signature_serves_half_its_lifetime);
    tcase_add_test(memory, another_statement_is_another_signature);
    tcase_add_test(memory, another_key_signs_again);
    tcase_add_test(memory, a_session_that_has_ended_gets_nothing_from_memory);
    tcase_add_test(memory, without_memory_each_answer_is_signed);
    return support_run(suite);
}
