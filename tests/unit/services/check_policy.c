/* Policies: what a tenant may say and in which words it is refused, what is in force for whom. */
#include "policy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "support_run.h"

#define LENGTH(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define DOCUMENT      "docs/policy.md"

static struct conf *conf;
static struct policy_document *document;
static struct policy policy;

static void begin(void)
{
    conf = conf_defaults();
}

static void end(void)
{
    policy_unref(&document);
    conf_unref(&conf);
}

static const char *shown(const struct buffer *buffer)
{
    static char out[4096];
    snprintf(out, sizeof(out), "%.*s", (int)buffer->length, buffer->length ? buffer->data : "");
    return out;
}

/* Makes `document` out of a text that must be good. */
static void given(const char *json)
{
    struct buffer error = {0};
    policy_unref(&document);
    document = policy_parse(conf, text_of(json), &error);
    ck_assert_msg(document != NULL, "%s was refused: %s", json, shown(&error));
    ck_assert_uint_eq(error.length, 0);
}

static void patched(const char *patch)
{
    struct buffer error = {0};
    struct policy_document *changed = policy_patch(conf, document, text_of(patch), &error);
    ck_assert_msg(changed != NULL, "%s was refused: %s", patch, shown(&error));
    policy_unref(&document);
    document = changed;
}

static void resolve(const char *roles, const char *device_type)
{
    policy_of_session(conf, document, text_of(roles), text_of(device_type), &policy);
}

/* --- one member each --- */

/* Every member: its text, the value it gives, and its default. */
static const struct member {
    const char *json;
    size_t offset;
    int64_t value, initial;
} members[] = {
#define MEMBER(json, field, value, initial)                  \
    {                                                        \
        json, offsetof(struct policy, field), value, initial \
    }
    MEMBER("{\"access_ttl\":60}", access_ttl, 60, 7200),
    MEMBER("{\"refresh_ttl\":31536000}", refresh_ttl, 31536000, 604800),
    MEMBER("{\"idle_timeout\":10}", idle_timeout, 10, 1800),
    MEMBER("{\"absolute_timeout\":86400}", absolute_timeout, 86400, 2592000),
    MEMBER("{\"renew\":\"fixed\"}", renew, RENEW_FIXED, RENEW_SLIDING),
    MEMBER("{\"max_devices\":1000}", max_devices, 1000, 10),
    MEMBER("{\"overflow\":\"reject\"}", overflow, OVERFLOW_REJECT, OVERFLOW_EVICT_OLDEST),
    MEMBER("{\"exclusive\":\"user\"}", exclusive, EXCLUSIVE_USER, EXCLUSIVE_NONE),
    MEMBER("{\"refresh_grace\":0}", refresh_grace, 0, 30),
    MEMBER("{\"refresh_repeat\":\"refuse\"}", refresh_repeat, REPEAT_REFUSE, REPEAT_ALERT),
    MEMBER("{\"bind\":{\"ip\":\"strict\"}}", bind_ip, BINDING_STRICT, BINDING_OFF),
    MEMBER("{\"bind\":{\"device\":\"log\"}}", bind_device, BINDING_LOG, BINDING_OFF),
    MEMBER("{\"verify\":{\"on\":[\"new_location\",\"new_device\"]}}", verify_on,
           VERIFY_NEW_LOCATION | VERIFY_NEW_DEVICE, 0),
    MEMBER("{\"verify\":{\"method\":\"otp\"}}", verify_method, VERIFY_OTP, VERIFY_EXTERNAL),
    MEMBER("{\"self_service\":{\"devices\":false}}", self_devices, 0, 1),
    MEMBER("{\"self_service\":{\"kick\":false}}", self_kick, 0, 1),
    MEMBER("{\"self_service\":{\"logout_all\":false}}", self_logout_all, 0, 1),
    MEMBER("{\"fresh\":{\"kick\":300}}", fresh_kick, 300, 0),
    MEMBER("{\"fresh\":{\"logout_all\":31536000}}", fresh_logout_all, 31536000, 0),
    MEMBER("{\"force_logout\":false}", force_logout, 0, 1),
    MEMBER("{\"rate\":{\"requests_per_second\":1000000}}", requests_per_second, 1000000, 0),
    MEMBER("{\"rate\":{\"authz\":1000000}}", authz_per_second, 1000000, 0),
    MEMBER("{\"rate\":{\"burst\":20,\"requests_per_second\":5}}", burst, 20, 0),
    MEMBER("{\"rate\":{\"logins_per_user_per_minute\":3}}", logins_per_user_per_minute, 3, 0),
    MEMBER("{\"limits\":{\"access_ttl\":31535999}}", limit_access_ttl, 31535999, 31536000),
    MEMBER("{\"limits\":{\"refresh_ttl\":604800}}", limit_refresh_ttl, 604800, 31536000),
    MEMBER("{\"limits\":{\"idle_timeout\":1800}}", limit_idle_timeout, 1800, 31536000),
    MEMBER("{\"limits\":{\"absolute_timeout\":2592000}}", limit_absolute_timeout, 2592000,
           31536000),
    MEMBER("{\"limits\":{\"session_bytes\":256}}", limit_session_bytes, 256, 16384),
    MEMBER("{\"quota\":{\"users\":1000000000}}", quota_users, 1000000000, 0),
    MEMBER("{\"quota\":{\"sessions\":1}}", quota_sessions, 1, 0),
    MEMBER("{\"cache_quota\":1099511627776}", cache_quota, INT64_C(1099511627776), 0),
    MEMBER("{\"outage_grace\":0}", outage_grace, 0, 900),
    MEMBER("{\"same_site\":\"strict\"}", same_site, SAME_SITE_STRICT, SAME_SITE_LAX),
};

static int64_t member_value(const struct member *member)
{
    return *(const int64_t *)(const void *)((const char *)&policy + member->offset);
}

START_TEST(a_member_replaces_its_default_and_nothing_else)
{
    struct policy defaults;
    policy_of_tenant(conf, NULL, &defaults);
    policy = defaults;
    ck_assert_int_eq(member_value(&members[_i]), members[_i].initial);
    given(members[_i].json);
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(member_value(&members[_i]), members[_i].value);
    if (policy.burst == 0) { /* which cannot stand alone */
        memcpy((char *)&policy + members[_i].offset, (char *)&defaults + members[_i].offset,
               sizeof(int64_t));
        ck_assert_mem_eq(&policy, &defaults, sizeof(policy));
    }
}
END_TEST

START_TEST(every_field_has_its_member)
{
    /* All but max_devices_of_type, which only a device type gives. */
    ck_assert_uint_eq(sizeof(members) / sizeof(members[0]) + 1, sizeof(policy) / sizeof(int64_t));
}
END_TEST

START_TEST(the_effective_policy_is_a_policy_that_says_the_same)
{
    struct buffer first = {0}, second = {0};
    given(members[_i].json);
    patched("{\"roles\":{\"a \\\"b\\\\\":{\"idle_timeout\":20,\"renew\":\"fixed\"},\"é\":{}},"
            "\"device_types\":{\"t\\\"v\":{\"max_devices\":2}}}");
    policy_print(conf, document, &first);
    buffer_add_char(&first, '\0');
    given(first.data);
    policy_print(conf, document, &second);
    first.length--;
    ck_assert(text_equal(buffer_text(&first), buffer_text(&second)));
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(member_value(&members[_i]), members[_i].value);
    resolve("[\"a \\\"b\\\\\"]", "t\"v");
    ck_assert_int_eq(policy.renew, RENEW_FIXED);
    ck_assert_int_eq(policy.max_devices_of_type, 2);
    buffer_free(&first);
    buffer_free(&second);
}
END_TEST

START_TEST(the_effective_policy_of_nothing_shows_the_defaults)
{
    struct buffer out = {0};
    conf->policy_verify_on = VERIFY_NEW_LOCATION;
    policy_print(conf, NULL, &out);
    ck_assert_str_eq(shown(&out),
                     "{\"access_ttl\":7200,\"refresh_ttl\":604800,\"idle_timeout\":1800,"
                     "\"absolute_timeout\":2592000,\"renew\":\"sliding\",\"max_devices\":10,"
                     "\"overflow\":\"evict_oldest\",\"exclusive\":\"none\",\"refresh_grace\":30,"
                     "\"refresh_repeat\":\"alert\","
                     "\"bind\":{\"ip\":\"off\",\"device\":\"off\"},"
                     "\"verify\":{\"on\":[\"new_location\"],\"method\":\"external\"},"
                     "\"self_service\":{\"devices\":true,\"kick\":true,\"logout_all\":true},"
                     "\"fresh\":{\"kick\":0,\"logout_all\":0},"
                     "\"force_logout\":true,\"rate\":{\"requests_per_second\":0,\"burst\":0,"
                     "\"logins_per_user_per_minute\":0,\"authz\":0},"
                     "\"limits\":{\"access_ttl\":31536000,\"refresh_ttl\":31536000,"
                     "\"idle_timeout\":31536000,\"absolute_timeout\":31536000,"
                     "\"session_bytes\":16384},\"quota\":{\"users\":0,\"sessions\":0},"
                     "\"cache_quota\":0,\"outage_grace\":900,"
                     "\"same_site\":\"lax\",\"roles\":{},\"device_types\":{}}");
    buffer_free(&out);
}
END_TEST

/* --- refusals --- */

#define KNOWN                                                                                 \
    "known are access_ttl, refresh_ttl, idle_timeout, absolute_timeout, renew, max_devices, " \
    "overflow, exclusive, refresh_grace, refresh_repeat, bind, verify, self_service, fresh, " \
    "force_logout, rate, limits, quota, cache_quota, outage_grace, same_site, roles, device_types"
#define KNOWN_OF_ROLES \
    "known are access_ttl, refresh_ttl, idle_timeout, absolute_timeout, renew, max_devices"

static const struct refusal {
    const char *json, *error;
} refusals[] = {
    /* form */
    {"", "The body is JSON that ends too early (line 1, column 0)"},
    {"[]", "The body must be a JSON object"},
    {"{\"renew\":\"fixed\",\"renew\":\"fixed\"}", "\"renew\" is there twice"},
    /* names */
    {"{\"idle\":5}", "\"idle\" is not known; " KNOWN},
    {"{\"bind.ip\":\"off\"}", "\"bind.ip\" is not known; " KNOWN},
    {"{\"\":1}", "\"\" is not known; " KNOWN},
    {"{\"max_devices_of_type\":1}", "\"max_devices_of_type\" is not known; " KNOWN},
    {"{\"bind\":{\"i\":\"off\"}}", "\"bind.i\" is not known; known are ip, device"},
    {"{\"bind\":{\"ip.x\":1}}", "\"bind.ip.x\" is not known; known are ip, device"},
    {"{\"rate\":{\"b\\n\":1}}", "\"rate.b?\" is not known; known are requests_per_second, burst, "
                                "logins_per_user_per_minute, authz"},
    {"{\"roles\":{\"a.b\":{\"overflow\":\"reject\"}}}",
     "\"roles.a.b.overflow\" is not known; " KNOWN_OF_ROLES},
    {"{\"device_types\":{\"tv\":{\"bind\":{}}}}",
     "\"device_types.tv.bind\" is not known; " KNOWN_OF_ROLES},
    {"{\"roles\":{\"a\":{\"roles\":{}}}}", "\"roles.a.roles\" is not known; " KNOWN_OF_ROLES},
    /* types */
    {"{\"idle_timeout\":\"2h\"}",
     "\"idle_timeout\" must be a whole number of seconds from 10 to 31536000, not \"2h\""},
    {"{\"idle_timeout\":60.0}",
     "\"idle_timeout\" must be a whole number of seconds from 10 to 31536000, not 60.0"},
    {"{\"idle_timeout\":null}",
     "\"idle_timeout\" must be a whole number of seconds from 10 to 31536000, not null"},
    {"{\"force_logout\":1}", "\"force_logout\" must be true or false, not 1"},
    {"{\"self_service\":{\"kick\":\"yes\"}}",
     "\"self_service.kick\" must be true or false, not \"yes\""},
    {"{\"self_service\":[\"kick\"]}", "\"self_service\" must be an object, not [\"kick\"]"},
    {"{\"overflow\":0}", "\"overflow\" must be one of \"evict_oldest\", \"evict_idlest\", "
                         "\"evict_all\", \"reject\", not 0"},
    {"{\"overflow\":\"evict_oldest|reject\"}",
     "\"overflow\" must be one of \"evict_oldest\", \"evict_idlest\", \"evict_all\", \"reject\", "
     "not \"evict_oldest|reject\""},
    {"{\"same_site\":\"Lax\"}", "\"same_site\" must be one of \"lax\", \"strict\", not \"Lax\""},
    {"{\"verify\":{\"on\":\"new_device\"}}",
     "\"verify.on\" must be an array of words, each once, out of \"new_device\", "
     "\"new_location\", not \"new_device\""},
    {"{\"verify\":{\"on\":[\"new_device\",\"new_device\"]}}",
     "\"verify.on\" must be an array of words, each once, out of \"new_device\", "
     "\"new_location\", not [\"new_device\",\"new_device\"]"},
    {"{\"verify\":{\"on\":[\"new_moon\"]}}",
     "\"verify.on\" must be an array of words, each once, out of \"new_device\", "
     "\"new_location\", not [\"new_moon\"]"},
    {"{\"verify\":{\"on\":{}}}", "\"verify.on\" must be an array of words, each once, out of "
                                 "\"new_device\", \"new_location\", not {}"},
    {"{\"roles\":[]}", "\"roles\" must be an object, not []"},
    {"{\"roles\":{\"a\":7}}", "\"roles.a\" must be an object, not 7"},
    {"{\"cache_quota\":-1}",
     "\"cache_quota\" must be a whole number of bytes from 0 to 1099511627776, not -1"},
    {"{\"renew\":\"éééééééééééééééééééééééééééééééééééééééé\"}",
     "\"renew\" must be one of \"sliding\", \"fixed\", not "
     "\"ééééééééééééééééééééééééééééé..."},
    /* bounds */
    {"{\"idle_timeout\":9}",
     "\"idle_timeout\" must be a whole number of seconds from 10 to 31536000, not 9"},
    {"{\"refresh_grace\":301}",
     "\"refresh_grace\" must be a whole number of seconds from 0 to 300, not 301"},
    {"{\"roles\":{\"a\":{\"max_devices\":0}}}",
     "\"roles.a.max_devices\" must be a whole number from 1 to 1000, not 0"},
    {"{\"device_types\":{\"\":{}}}",
     "\"device_types.\": a name has 1 to 128 bytes without control characters"},
    {"{\"roles\":{\"a\\u0007\":{}}}",
     "\"roles.a?\": a name has 1 to 128 bytes without control characters"},
    /* contradictions */
    {"{\"idle_timeout\":7200,\"absolute_timeout\":3600,\"access_ttl\":600}",
     "\"idle_timeout\" (7200) must be no longer than \"absolute_timeout\" (3600)"},
    {"{\"idle_timeout\":2592001}",
     "\"idle_timeout\" (2592001) must be no longer than \"absolute_timeout\" (2592000, the "
     "default)"},
    {"{\"absolute_timeout\":3600}",
     "\"access_ttl\" (7200, the default) must be no longer than \"absolute_timeout\" (3600)"},
    {"{\"access_ttl\":604801}",
     "\"access_ttl\" (604801) must be no longer than \"refresh_ttl\" (604800, the default)"},
    {"{\"access_ttl\":30}",
     "\"refresh_grace\" (30, the default) must be shorter than \"access_ttl\" (30)"},
    {"{\"rate\":{\"burst\":5}}", "\"rate.burst\" (5) needs \"rate.requests_per_second\", which is "
                                 "0"},
    {"{\"roles\":{\"a\":{\"idle_timeout\":86400}},\"absolute_timeout\":43200}",
     "\"roles.a.idle_timeout\" (86400) must be no longer than \"absolute_timeout\" (43200)"},
    {"{\"device_types\":{\"tv\":{\"access_ttl\":20}}}",
     "\"refresh_grace\" (30, the default) must be shorter than \"device_types.tv.access_ttl\" "
     "(20)"},
    {"{\"roles\":{\"a\":{},\"b\":{\"refresh_ttl\":60,\"access_ttl\":61}}}",
     "\"roles.b.access_ttl\" (61) must be no longer than \"roles.b.refresh_ttl\" (60)"},
    /* bounds of the platform */
    {"{\"limits\":{\"access_ttl\":600},\"access_ttl\":601}",
     "\"access_ttl\" (601) must be no longer than \"limits.access_ttl\" (600), which is the "
     "platform's"},
    {"{\"limits\":{\"absolute_timeout\":600},\"idle_timeout\":601}",
     "\"idle_timeout\" (601) must be no longer than \"absolute_timeout\" (600, the default)"},
    {"{\"limits\":{\"idle_timeout\":600},\"roles\":{\"a\":{\"idle_timeout\":601}}}",
     "\"roles.a.idle_timeout\" (601) must be no longer than \"limits.idle_timeout\" (600), which "
     "is the platform's"},
};

START_TEST(a_refusal_names_the_member_its_value_and_what_is_allowed)
{
    struct buffer error = {0};
    document = policy_parse(conf, text_of(refusals[_i].json), &error);
    ck_assert_msg(document == NULL, "%s was taken", refusals[_i].json);
    ck_assert_str_eq(shown(&error), refusals[_i].error);
    buffer_free(&error);
}
END_TEST

/* Policies that look odd and are no contradiction. */
static const char *const allowed[] = {
    "{}",
    "{\"bind\":{},\"roles\":{},\"device_types\":{\"tv\":{}}}",
    "{\"absolute_timeout\":7200,\"idle_timeout\":7200}",
    "{\"absolute_timeout\":43200}", /* shorter than the refresh token's life: it ends both */
    "{\"refresh_grace\":0,\"access_ttl\":10}",
    "{\"roles\":{\"a\":{\"idle_timeout\":86400,\"absolute_timeout\":86400}}}",
    "{\"rate\":{\"requests_per_second\":5,\"burst\":1}}",
};

START_TEST(what_contradicts_nothing_is_taken)
{
    given(allowed[_i]);
}
END_TEST

START_TEST(defaults_give_way_to_the_bounds_of_the_platform)
{
    given("{\"limits\":{\"absolute_timeout\":600,\"refresh_ttl\":300}}");
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.absolute_timeout, 600);
    ck_assert_int_eq(policy.idle_timeout, 600);
    ck_assert_int_eq(policy.refresh_ttl, 300);
    ck_assert_int_eq(policy.access_ttl, 300);
    given("{\"limits\":{\"idle_timeout\":20},\"roles\":{\"a\":{\"idle_timeout\":15}}}");
    resolve("[\"b\"]", "");
    ck_assert_int_eq(policy.idle_timeout, 20);
    resolve("[\"a\"]", "");
    ck_assert_int_eq(policy.idle_timeout, 15);
}
END_TEST

START_TEST(a_bound_that_the_configuration_lowers_later_holds_for_what_was_set_before)
{
    given("{\"absolute_timeout\":86400,\"roles\":{\"a\":{\"absolute_timeout\":90000}}}");
    conf->policy_limit_absolute_timeout = 50000;
    resolve("[\"a\"]", "");
    ck_assert_int_eq(policy.absolute_timeout, 50000);
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.absolute_timeout, 50000);
}
END_TEST

START_TEST(a_limit_that_the_tenant_takes_away_needs_no_burst)
{
    conf->policy_requests_per_second = 100;
    conf->policy_burst = 200;
    given("{\"rate\":{\"requests_per_second\":0}}");
}
END_TEST

/* {"roles":{"r000…":{},…}} */
static char *many_roles(int count, int name_length)
{
    struct buffer json = {0};
    buffer_add_literal(&json, "{\"roles\":{");
    for (int i = 0; i < count; i++)
        buffer_addf(&json, "%s\"%0*d\":{\"max_devices\":%d}", i ? "," : "", name_length, i, i + 1);
    buffer_add_literal(&json, "}}");
    buffer_add_char(&json, '\0');
    return json.data;
}

START_TEST(sixty_four_roles_are_allowed_and_each_is_found)
{
    char *json = many_roles(64, 128);
    given(json);
    free(json);
    for (int i = 0; i < 64; i++) {
        char roles[160];
        snprintf(roles, sizeof(roles), "[\"other\",\"%0128d\"]", i);
        resolve(roles, NULL);
        ck_assert_int_eq(policy.max_devices, i + 1);
    }
    resolve("[\"0\"]", NULL);
    ck_assert_int_eq(policy.max_devices, 10);
}
END_TEST

static const struct {
    int count, name_length;
    const char *error;
} too_many[] = {
    {65, 3, "\"roles\" must have at most 64 members, not 65"},
    {1, 129,
     "\"roles.0000000000000000000000000000000000000000...\": a name has 1 to 128 bytes without "
     "control characters"},
};

START_TEST(too_many_roles_and_too_long_names_are_refused)
{
    struct buffer error = {0};
    char *json = many_roles(too_many[_i].count, too_many[_i].name_length);
    ck_assert_ptr_null(policy_parse(conf, text_of(json), &error));
    ck_assert_str_eq(shown(&error), too_many[_i].error);
    free(json);
    buffer_free(&error);
}
END_TEST

/* --- patches --- */

START_TEST(a_sale_lengthens_the_idle_timeout_and_ends)
{
    given("{\"max_devices\":3}");
    patched("{\"idle_timeout\":7200}");
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.idle_timeout, 7200);
    ck_assert_int_eq(policy.max_devices, 3);
    patched("{\"idle_timeout\":null}");
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.idle_timeout, 1800);
    ck_assert(text_equal(policy_json(document), TEXT("{\"max_devices\":3}")));
}
END_TEST

START_TEST(a_patch_begins_with_nothing_and_reaches_into_roles)
{
    patched("{\"roles\":{\"a\":{\"idle_timeout\":60},\"b\":{\"renew\":\"fixed\"}}}");
    patched("{\"roles\":{\"a\":{\"max_devices\":2},\"b\":null,\"c\":{}}}");
    ck_assert(
        text_equal(policy_json(document),
                   TEXT("{\"roles\":{\"a\":{\"idle_timeout\":60,\"max_devices\":2},\"c\":{}}}")));
    ck_assert(text_equal(policy_json(NULL), TEXT("{}")));
}
END_TEST

START_TEST(a_refused_patch_leaves_the_document_alone)
{
    struct buffer error = {0};
    given("{\"absolute_timeout\":43200}");
    ck_assert_ptr_null(policy_patch(conf, document, TEXT("{\"idle_timeout\":43201}"), &error));
    ck_assert_str_eq(shown(&error), "\"idle_timeout\" (43201) must be no longer than "
                                    "\"absolute_timeout\" (43200)");
    ck_assert(text_equal(policy_json(document), TEXT("{\"absolute_timeout\":43200}")));
    buffer_free(&error);
}
END_TEST

/* A null that takes a member away leaves nothing in the result; typing errors are reported. */
START_TEST(a_patch_that_takes_away_names_what_is_known)
{
    static const struct {
        const char *patch, *name;
    } wrong[] = {
        {"{\"idel_timeout\":null}", "\"idel_timeout\" is not known"},
        {"{\"bind\":{\"ips\":null}}", "\"bind.ips\" is not known"},
        {"{\"roles\":{\"staff\":{\"overflow\":null}}}", "\"roles.staff.overflow\" is not known"},
    };
    given("{\"idle_timeout\":900,\"bind\":{\"ip\":\"log\"},\"roles\":{\"staff\":{\"max_devices\":1}"
          "}}");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct buffer error = {0};
        ck_assert_ptr_null(policy_patch(conf, document, text_of(wrong[i].patch), &error));
        ck_assert_msg(strstr(shown(&error), wrong[i].name), "%s: %s", wrong[i].patch,
                      shown(&error));
        buffer_free(&error);
    }
    patched("{\"roles\":{\"staff\":null,\"never\":null},\"device_types\":null}");
    patched("{\"bind\":null,\"verify\":{\"on\":null},\"idle_timeout\":null}");
    ck_assert(text_equal(policy_json(document), TEXT("{\"roles\":{},\"verify\":{}}")));
}
END_TEST

/* Unknown members that another version of sessiond stored can be removed, and no others. */
START_TEST(a_patch_takes_away_what_is_stored_even_if_it_is_not_known)
{
    static const char stored[] = "{\"idle_timeout\":900,\"later\":{\"a\":1},"
                                 "\"bind\":{\"ip\":\"log\",\"port\":7},"
                                 "\"roles\":{\"staff\":{\"max_devices\":1,\"later\":1}}}";
    static const struct {
        const char *patch, *name;
    } wrong[] = {
        {"{\"later\":2}", "\"later\" is not known"},
        {"{\"later\":{\"a\":null}}", "\"later\" is not known"},
        {"{\"a\":null}", "\"a\" is not known"},
        {"{\"bind\":{\"later\":null}}", "\"bind.later\" is not known"},
        {"{\"roles\":{\"other\":{\"later\":null}}}", "\"roles.other.later\" is not known"},
        {"{\"later\":null}", "\"bind.port\" is not known"}, /* what is left */
    };
    struct buffer error = {0};
    document = policy_restore(text_of(stored), &error);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error.length = 0;
        ck_assert_ptr_null(policy_patch(conf, document, text_of(wrong[i].patch), &error));
        ck_assert_msg(strstr(shown(&error), wrong[i].name), "%s: %s", wrong[i].patch,
                      shown(&error));
    }
    buffer_free(&error);
    patched("{\"later\":null,\"bind\":{\"port\":null},\"roles\":{\"staff\":{\"later\":null}}}");
    ck_assert(
        text_equal(policy_json(document), TEXT("{\"idle_timeout\":900,\"bind\":{\"ip\":\"log\"},"
                                               "\"roles\":{\"staff\":{\"max_devices\":1}}}")));
}
END_TEST

/* --- what belongs to the platform --- */

/* Writes by keys of one tenant: the present policy (NULL: none), the one that is wanted (NULL: a
 * DELETE), and the one that is then set, or the refusal. */
static const struct kept {
    const char *present, *wanted;
    bool whole;
    const char *set, *error;
} kepts[] = {
    /* Members that a whole policy leaves out stay, set or not. */
    {NULL, "{\"max_devices\":3}", true, "{\"max_devices\":3}", NULL},
    {"{\"cache_quota\":7,\"max_devices\":9}", "{\"roles\":{\"a\\\"b\":{\"max_devices\":1}}}", true,
     "{\"cache_quota\":7,\"roles\":{\"a\\\"b\":{\"max_devices\":1}}}", NULL},
    {"{\"rate\":{\"burst\":5,\"requests_per_second\":4},\"bind\":{\"ip\":\"log\"}}",
     "{\"bind\":{\"device\":\"log\"},\"device_types\":{\"tv\":{}}}", true,
     "{\"bind\":{\"device\":\"log\"},\"rate\":{\"requests_per_second\":4,\"burst\":5},"
     "\"device_types\":{\"tv\":{}}}",
     NULL},
    {"{\"force_logout\":false,\"max_devices\":9}", NULL, true, "{\"force_logout\":false}", NULL},
    {"{\"max_devices\":9}", NULL, true, "{}", NULL},
    {NULL, NULL, true, "{}", NULL},
    /* A value in force may be repeated; repeated by the tenant it does not become the tenant's. */
    {"{\"cache_quota\":7}", "{\"cache_quota\":7,\"force_logout\":true}", true,
     "{\"cache_quota\":7}", NULL},
    {NULL, "{\"force_logout\":true,\"rate\":{\"burst\":0}}", true, "{}", NULL},
    {NULL, "{\"force_logout\":true,\"max_devices\":4}", false, "{\"max_devices\":4}", NULL},
    {"{\"force_logout\":true}", "{}", false, "{\"force_logout\":true}", NULL},
    /* Nothing is in it to keep: as it was given. */
    {NULL, "{\"same_site\":\"lax\",\"max_devices\":4}", true,
     "{\"same_site\":\"lax\",\"max_devices\":4}", NULL},
    /* Another value is refused, larger or smaller, and what is taken back. */
    {NULL, "{\"rate\":{\"requests_per_second\":5}}", true, NULL,
     "\"rate.requests_per_second\" belongs to the platform: only a key of all tenants can change "
     "it "
     "from 0 to 5"},
    {"{\"cache_quota\":7}", "{\"cache_quota\":8}", true, NULL,
     "\"cache_quota\" belongs to the platform: only a key of all tenants can change it from 7 to "
     "8"},
    {"{\"force_logout\":false}", "{}", false, NULL,
     "\"force_logout\" belongs to the platform: only a key of all tenants can change it from false "
     "to true"},
    {"{\"rate\":{\"logins_per_user_per_minute\":6}}", "{\"rate\":{}}", false, NULL,
     "\"rate.logins_per_user_per_minute\" belongs to the platform: only a key of all tenants can "
     "change it from 6 to 0"},
};

static struct policy_document *parsed(const char *json)
{
    struct buffer error = {0};
    struct policy_document *made = json ? policy_parse(conf, text_of(json), &error) : NULL;
    ck_assert_msg(error.length == 0, "%s: %s", json, shown(&error));
    return made;
}

START_TEST(what_belongs_to_the_platform_stays_with_the_key_of_a_tenant)
{
    const struct kept *row = &kepts[_i];
    struct buffer error = {0};
    struct policy_document *present = parsed(row->present);
    document = parsed(row->wanted);
    bool good = policy_keep_platform(conf, present, row->whole, &document, &error);
    ck_assert_msg(good == (row->error == NULL), "%s", shown(&error));
    ck_assert_str_eq(shown(&error), row->error ? row->error : "");
    if (good) {
        struct text json = policy_json(document);
        struct buffer again = {0};
        struct policy_document *read = policy_parse(conf, json, &again);
        ck_assert_msg(text_equal(json, text_of(row->set)), "%.*s", (int)json.length, json.data);
        policy_of_tenant(conf, document, &policy);
        struct policy same;
        policy_of_tenant(conf, read, &same);
        ck_assert_mem_eq(&policy, &same, sizeof(policy));
        policy_unref(&read);
    }
    policy_unref(&present);
    buffer_free(&error);
}
END_TEST

/* A default that changes is in force for whoever only repeated it. */
START_TEST(who_repeats_a_default_of_the_platform_does_not_hold_on_to_it)
{
    struct buffer error = {0}, out = {0};
    policy_print(conf, NULL, &out);
    buffer_add_char(&out, '\0');
    document = parsed(out.data);
    ck_assert(policy_keep_platform(conf, NULL, true, &document, &error));
    conf->policy_requests_per_second = 9;
    conf->policy_force_logout = false;
    conf->policy_idle_timeout = 900;
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.requests_per_second, 9);
    ck_assert_int_eq(policy.force_logout, false);
    ck_assert_int_eq(policy.idle_timeout, 1800);
    buffer_free(&out);
}
END_TEST

/* --- roles, device types, platform --- */

#define DEMO_TENANT                                                              \
    "{\"idle_timeout\":900,\"max_devices\":5,\"roles\":{"                        \
    "\"staff\":{\"idle_timeout\":28800,\"access_ttl\":28800,\"max_devices\":8}," \
    "\"admin\":{\"idle_timeout\":600,\"renew\":\"fixed\"},"                      \
    "\"slow\":{\"idle_timeout\":1200,\"renew\":\"sliding\",\"max_devices\":9},"  \
    "\"short\":{\"absolute_timeout\":3600,\"access_ttl\":60},"                   \
    "\"q\\\"uo\\\\te\":{\"max_devices\":2}},"                                    \
    "\"device_types\":{\"tv\":{\"idle_timeout\":86400,\"max_devices\":1},"       \
    "\"kiosk\":{\"idle_timeout\":60,\"renew\":\"fixed\"},\"t\\\"v\":{\"max_devices\":4}}}"

static const struct {
    const char *roles, *type;
    int64_t idle_timeout, access_ttl, renew, max_devices, max_devices_of_type;
} says[] = {
    {NULL, NULL, 900, 7200, RENEW_SLIDING, 5, 0},
    {"", "", 900, 7200, RENEW_SLIDING, 5, 0},
    {"[]", "phone", 900, 7200, RENEW_SLIDING, 5, 0},
    {"[\"customer\",\"staf\",\"staffs\"]", "TV", 900, 7200, RENEW_SLIDING, 5, 0},
    /* longer than the tenant's is allowed */
    {"[\"staff\"]", NULL, 28800, 28800, RENEW_SLIDING, 8, 0},
    {"[\"customer\",\"staff\"]", "phone", 28800, 28800, RENEW_SLIDING, 8, 0},
    /* of several the shortest, the smallest, the fixed; in any order */
    {"[\"staff\",\"admin\"]", NULL, 600, 28800, RENEW_FIXED, 8, 0},
    {"[\"admin\",\"staff\"]", NULL, 600, 28800, RENEW_FIXED, 8, 0},
    {"[\"slow\",\"admin\",\"staff\"]", NULL, 600, 28800, RENEW_FIXED, 8, 0},
    {"[\"slow\",\"staff\"]", NULL, 1200, 28800, RENEW_SLIDING, 8, 0},
    /* the device type is one more, but its number of devices is its own */
    {"[]", "tv", 86400, 7200, RENEW_SLIDING, 5, 1},
    {"[\"staff\"]", "tv", 28800, 28800, RENEW_SLIDING, 8, 1},
    {"[\"slow\"]", "kiosk", 60, 7200, RENEW_FIXED, 9, 0},
    /* each is free of contradictions, together they are not: the longer time gives way */
    {"[\"short\"]", NULL, 900, 60, RENEW_SLIDING, 5, 0},
    {"[\"short\",\"staff\"]", NULL, 3600, 60, RENEW_SLIDING, 8, 0},
    {"[\"short\"]", "tv", 3600, 60, RENEW_SLIDING, 5, 1},
    /* names with escapes; a device type comes as it is */
    {"[\"q\\\"uo\\\\te\"]", "t\"v", 900, 7200, RENEW_SLIDING, 2, 4},
    {"[\"x\\\"\",\"q\\\"uo\\\\te\",\"\\\\\"]", "t\\\"v", 900, 7200, RENEW_SLIDING, 2, 0},
    {"[\"x\\\\\",\"admin\"]", NULL, 600, 7200, RENEW_FIXED, 5, 0},
    {"[\"x\\\",admin\"]", NULL, 900, 7200, RENEW_SLIDING, 5, 0},
    /* nothing is read after the end of what is no array */
    {"[\"staff", "tv", 86400, 7200, RENEW_SLIDING, 5, 1},
    {"[\"staff\\", NULL, 900, 7200, RENEW_SLIDING, 5, 0},
    {"\"", NULL, 900, 7200, RENEW_SLIDING, 5, 0},
};

START_TEST(roles_and_device_type_have_a_say)
{
    given(DEMO_TENANT);
    /* In memory of their own, for the sanitizers. */
    char *roles = says[_i].roles ? xstrdup(says[_i].roles) : NULL;
    struct text text = text_of(roles);
    char *exact = roles ? xmalloc(text.length + 1) : NULL;
    if (exact)
        memcpy(exact, roles, text.length);
    policy_of_session(conf, document, (struct text){exact, text.length}, text_of(says[_i].type),
                      &policy);
    ck_assert_int_eq(policy.idle_timeout, says[_i].idle_timeout);
    ck_assert_int_eq(policy.access_ttl, says[_i].access_ttl);
    ck_assert_int_eq(policy.renew, says[_i].renew);
    ck_assert_int_eq(policy.max_devices, says[_i].max_devices);
    ck_assert_int_eq(policy.max_devices_of_type, says[_i].max_devices_of_type);
    free(roles);
    free(exact);
}
END_TEST

START_TEST(without_a_document_a_session_has_the_defaults)
{
    struct policy tenant;
    resolve("[\"staff\"]", "tv");
    policy_of_tenant(conf, NULL, &tenant);
    ck_assert_mem_eq(&policy, &tenant, sizeof(policy));
    ck_assert_int_eq(policy.self_kick, 1);
}
END_TEST

START_TEST(the_longest_life_is_that_of_any_role_or_type)
{
    ck_assert_int_eq(policy_longest_life(conf, NULL), 2592000);
    given("{\"absolute_timeout\":43200}");
    ck_assert_int_eq(policy_longest_life(conf, document), 43200);
    patched("{\"roles\":{\"a\":{\"absolute_timeout\":86400},\"b\":{\"idle_timeout\":60}}}");
    ck_assert_int_eq(policy_longest_life(conf, document), 86400);
    patched("{\"device_types\":{\"tv\":{\"absolute_timeout\":31536000}}}");
    ck_assert_int_eq(policy_longest_life(conf, document), 31536000);
}
END_TEST

/* --- the defaults of tomorrow --- */

START_TEST(defaults_that_change_are_in_force_where_the_tenant_says_nothing)
{
    given("{\"idle_timeout\":7200,\"roles\":{\"a\":{\"access_ttl\":7000}}}");
    conf->policy_max_devices = 3;
    conf->policy_self_service = SELF_DEVICES;
    conf->policy_absolute_timeout = 3600;
    conf->policy_access_ttl = 3600;
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.max_devices, 3);
    ck_assert_int_eq(policy.self_devices, 1);
    ck_assert_int_eq(policy.self_kick, 0);
    ck_assert_int_eq(policy.idle_timeout, 3600); /* it cannot be longer than the whole life */
    resolve("[\"a\"]", NULL);
    ck_assert_int_eq(policy.access_ttl, 3600);
}
END_TEST

START_TEST(a_stored_document_is_read_whatever_became_of_its_members)
{
    static const char stored[] = "{\"idle_timeout\":7200,\"from_tomorrow\":{\"a\":1},"
                                 "\"overflow\":\"evict_newest\",\"max_devices\":5000,\"bind\":7,"
                                 "\"roles\":{\"a\":{\"idle_timeout\":60,\"overflow\":\"reject\"},"
                                 "\"b\":7,\"\":{}},\"device_types\":7,\"absolute_timeout\":3600}";
    struct buffer error = {0};
    ck_assert_ptr_null(policy_parse(conf, text_of(stored), &error));
    error.length = 0;
    document = policy_restore(text_of(stored), &error);
    ck_assert_msg(document != NULL, "%s", shown(&error));
    ck_assert_uint_eq(error.length, 0);
    ck_assert(text_equal(policy_json(document), text_of(stored)));
    resolve("[\"b\"]", NULL);
    ck_assert_int_eq(policy.idle_timeout, 3600);
    ck_assert_int_eq(policy.max_devices, 10);
    ck_assert_int_eq(policy.overflow, OVERFLOW_EVICT_OLDEST);
    resolve("[\"a\"]", NULL);
    ck_assert_int_eq(policy.idle_timeout, 60);
    ck_assert_ptr_null(policy_restore(TEXT("{"), &error));
    ck_assert_uint_gt(error.length, 0);
    buffer_free(&error);
}
END_TEST

/* --- the document as a thing --- */

START_TEST(documents_are_counted)
{
    given("{ \"renew\" : \"fixed\" }");
    ck_assert(text_equal(policy_json(document), TEXT("{\"renew\":\"fixed\"}")));
    struct policy_document *other = policy_ref(document);
    policy_unref(&other);
    ck_assert_ptr_null(other);
    policy_of_tenant(conf, document, &policy);
    ck_assert_int_eq(policy.renew, RENEW_FIXED);
    policy_unref(&other);
    ck_assert_ptr_null(policy_ref(NULL));
    ck_assert_uint_eq(policy_bytes(NULL), 0);
    ck_assert_uint_lt(policy_bytes(document), 128);
}
END_TEST

/* Cuts a good document everywhere and puts every byte everywhere: it is taken or refused with
 * words. */
START_TEST(damaged_documents_are_taken_or_refused_with_words)
{
    size_t length = strlen(DEMO_TENANT);
    for (size_t at = 0; at < length; at += 7) {
        for (int byte = -1; byte < 256; byte += 17) {
            struct buffer error = {0};
            char *json = xstrndup(DEMO_TENANT, byte < 0 ? at : length);
            if (byte >= 0)
                json[at] = (char)byte;
            struct text text = {json, byte < 0 ? at : length};
            document = policy_parse(conf, text, &error);
            ck_assert(document ? error.length == 0 : error.length > 0);
            policy_unref(&document);
            document = policy_restore(text, &error);
            policy_unref(&document);
            buffer_free(&error);
            free(json);
        }
    }
}
END_TEST

/* --- documentation --- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s: run from the root of the source", path);
    char *content = xcalloc(1, 1 << 18);
    ck_assert_uint_lt(fread(content, 1, (1 << 18) - 1, file), (1 << 18) - 1);
    fclose(file);
    return content;
}

struct documented {
    const char *path, *option;
    size_t offset;  /* of the option */
    const char *by; /* who may have a value of its own */
    bool one_bit;   /* one word of the option, not all */
};

/* "| `access_ttl` | `policy.access_ttl`, 7200 | roles, types | 10 – 31536000 |"; of words up to
 * those. */
static void expect_row(const struct documented *row, struct buffer *out)
{
    const struct conf_bounds bounds = conf_bounds(row->offset);
    const char *option = strchr(row->option, '_');
    bool number = bounds.words == NULL && bounds.maximum > 0;
    buffer_addf(out, "\n| `%s` | `%.*s.%s`", row->path, (int)(option - row->option), row->option,
                option + 1);
    if (number) {
        int64_t initial = *(const int64_t *)(const void *)((const char *)conf + row->offset);
        buffer_addf(out, ", %lld | %s | %lld – %lld |", (long long)initial, row->by,
                    (long long)bounds.minimum, (long long)bounds.maximum);
    }
    buffer_add_char(out, '\0');
}

START_TEST(every_member_is_documented)
{
    static const struct documented rows[] = {
#define POLICY_MEMBER(kind, path, field, option, bit, say) \
    {path, #option, offsetof(struct conf, option), BY_##say, (bit) != 0},
#define BY_SMALLEST "roles, types"
#define BY_LARGEST  "roles, types"
#define BY_TENANT   "tenant"
#define BY_PLATFORM "platform"
#include "tbl/policy.h"
    };
    char *text = read_file(DOCUMENT);
    for (int i = 0; i < LENGTH(rows); i++) {
        struct buffer expected = {0};
        expect_row(&rows[i], &expected);
        const char *row = strstr(text, expected.data);
        ck_assert_msg(row != NULL, "not in " DOCUMENT ": %s", expected.data + 1);
        size_t length = strcspn(row + 1, "\n");
        char by[32];
        snprintf(by, sizeof(by), "| %s |", rows[i].by);
        ck_assert_msg(memmem(row, length, by, strlen(by)) != NULL, "who may: %s", rows[i].path);
        const char *words = rows[i].one_bit ? NULL : conf_bounds(rows[i].offset).words;
        struct text word;
        for (unsigned at = 0; words && (word = text_word_at(words, at)).data != NULL; at++)
            ck_assert_msg(memmem(row, length, word.data, word.length) != NULL, "%s: %.*s",
                          rows[i].path, (int)word.length, word.data);
        buffer_free(&expected);
    }
    free(text);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("policy");
    TCase *all = tcase_create("policy");
    tcase_add_checked_fixture(all, begin, end);
    tcase_add_loop_test(all, a_member_replaces_its_default_and_nothing_else, 0, LENGTH(members));
    tcase_add_test(all, every_field_has_its_member);
    tcase_add_loop_test(all, the_effective_policy_is_a_policy_that_says_the_same, 0,
                        LENGTH(members));
    tcase_add_test(all, the_effective_policy_of_nothing_shows_the_defaults);
    tcase_add_loop_test(all, a_refusal_names_the_member_its_value_and_what_is_allowed, 0,
                        LENGTH(refusals));
    tcase_add_loop_test(all, what_contradicts_nothing_is_taken, 0, LENGTH(allowed));
    tcase_add_test(all, a_limit_that_the_tenant_takes_away_needs_no_burst);
    tcase_add_test(all, defaults_give_way_to_the_bounds_of_the_platform);
    tcase_add_test(all, a_bound_that_the_configuration_lowers_later_holds_for_what_was_set_before);
    tcase_add_test(all, sixty_four_roles_are_allowed_and_each_is_found);
    tcase_add_loop_test(all, too_many_roles_and_too_long_names_are_refused, 0, LENGTH(too_many));
    tcase_add_test(all, a_sale_lengthens_the_idle_timeout_and_ends);
    tcase_add_test(all, a_patch_begins_with_nothing_and_reaches_into_roles);
    tcase_add_test(all, a_refused_patch_leaves_the_document_alone);
    tcase_add_test(all, a_patch_that_takes_away_names_what_is_known);
    tcase_add_test(all, a_patch_takes_away_what_is_stored_even_if_it_is_not_known);
    tcase_add_loop_test(all, what_belongs_to_the_platform_stays_with_the_key_of_a_tenant, 0,
                        LENGTH(kepts));
    tcase_add_test(all, who_repeats_a_default_of_the_platform_does_not_hold_on_to_it);
    tcase_add_loop_test(all, roles_and_device_type_have_a_say, 0, LENGTH(says));
    tcase_add_test(all, without_a_document_a_session_has_the_defaults);
    tcase_add_test(all, the_longest_life_is_that_of_any_role_or_type);
    tcase_add_test(all, defaults_that_change_are_in_force_where_the_tenant_says_nothing);
    tcase_add_test(all, a_stored_document_is_read_whatever_became_of_its_members);
    tcase_add_test(all, documents_are_counted);
    tcase_add_test(all, damaged_documents_are_taken_or_refused_with_words);
    tcase_add_test(all, every_member_is_documented);
    suite_add_tcase(suite, all);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
