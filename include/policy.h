/* Policies: how long sessions live, how many a user has, what binds them - the defaults of the
 * configuration, and over them what a tenant has set (api.md "Tenants").
 *
 * A tenant's own policy is a JSON object, checked as a whole: every member known, of its type,
 * within its bounds, and none contradicting another or a default. The members are rows of
 * tbl/policy.h. Documents are immutable and counted; any thread. */
#pragma once

#include "conf.h"
#include "memory.h"

/* The policy in force, for one session where roles and device types differ: the fields of the rows,
 * each as its row and its option say, enums and booleans as numbers. */
struct policy {
#define POLICY_MEMBER(kind, path, field, option, bit, say) int64_t field;
#include "tbl/policy.h"
    int64_t max_devices_of_type; /* living sessions of this device type; 0: no limit of its own */
};

struct policy_document;

/* Reads a tenant's policy, of any size (session.h: POLICY_MAX). NULL with *error, a sentence that
 * names the member, its value and what is allowed. The configuration's defaults stand for what is
 * absent, so contradictions with them are found too. With conf NULL the text was accepted before,
 * maybe by another version and under other defaults: contradictions and members that are not known
 * here are no errors. */
struct policy_document *policy_parse(const struct conf *conf, struct text json,
                                     struct buffer *error);
/* The same for what policy_json() said once. It was good then: since, the defaults may have
 * changed, or another version of sessiond may have written it. What is not good any more is passed
 * over and resolves to what is in force around it; NULL only for what is no JSON object. */
struct policy_document *policy_restore(struct text json, struct buffer *error);
/* As policy_parse() for the present document (NULL: an empty one) with a merge patch (RFC 7396)
 * applied: null takes a member back to its default, but must name one that is known or stored: so
 * what another version has written can be taken away. */
struct policy_document *policy_patch(const struct conf *conf, const struct policy_document *present,
                                     struct text patch, struct buffer *error);
/* What a key of one tenant may make of a policy: *wanted (NULL: the defaults), but with the members
 * of the platform (PLATFORM in tbl/policy.h) as they are in the present document, set or not. False
 * with a sentence if it wants another value for one. `whole`: *wanted was given as a whole, what it
 * does not say of the platform is no wish; otherwise it is the present document with a patch, and
 * what is not there was taken away. */
bool policy_keep_platform(const struct conf *conf, const struct policy_document *present,
                          bool whole, struct policy_document **wanted, struct buffer *error);
struct policy_document *policy_ref(struct policy_document *document);
void policy_unref(struct policy_document **document);
/* What the tenant has set, compact JSON as it is stored; "{}" for NULL. */
struct text policy_json(const struct policy_document *document);
/* Memory that it takes, everything counted. */
size_t policy_bytes(const struct policy_document *document);

/* The effective policy as api.md shows it, every member with its value, one JSON object. */
void policy_print(const struct conf *conf, const struct policy_document *document,
                  struct buffer *out);

/* The policy of a tenant (NULL: the defaults) without regard to roles and device types. Neither
 * locks nor allocates, as the next. */
void policy_of_tenant(const struct conf *conf, const struct policy_document *document,
                      struct policy *ret);
/* The policy in force for a session with these roles (the JSON array of strings that its answer
 * shows, escaped as json_text() does it, or absent) and this device type (absent: none). Of several
 * roles and the device type that have a say the shortest time and the smallest number win; a role's
 * max_devices replaces the tenant's, a device type's is max_devices_of_type. Costs next to nothing
 * where a tenant overrides nothing. */
void policy_of_session(const struct conf *conf, const struct policy_document *document,
                       struct text roles_json, struct text device_type, struct policy *ret);
/* The shortest and the longest idle timeout that a session of the tenant may have, in seconds. */
void policy_idle_range(const struct conf *conf, const struct policy_document *document,
                       int64_t *shortest, int64_t *longest);
/* The longest that any session of the tenant can live from its login, in seconds. */
int64_t policy_longest_life(const struct conf *conf, const struct policy_document *document);
