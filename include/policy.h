/* Policies: lifetimes of sessions, their number per user, their bindings. A tenant's settings
 * override the defaults of the configuration (api.md "Tenants").
 *
 * A tenant's own policy is a JSON object, checked as a whole: every member known, of its type,
 * within its bounds, and none contradicting another or a default. The members are rows of
 * tbl/policy.h. Documents are immutable and reference-counted; any thread. */
#pragma once

#include "conf.h"
#include "memory.h"

/* The policy in force, for one session where roles and device types differ: the fields of the rows,
 * typed as row and option say; enums and booleans are numbers. */
struct policy {
#define POLICY_MEMBER(kind, path, field, option, bit, say) int64_t field;
#include "tbl/policy.h"
    int64_t max_devices_of_type; /* active sessions of this device type; 0: no limit of its own */
};

struct policy_document;

/* Parses a tenant's policy, of any size (session.h: POLICY_MAX). NULL with *error, a sentence that
 * names the member, its value and the allowed values. The configuration's defaults stand for absent
 * members, so contradictions with them are found too. */
struct policy_document *policy_parse(const struct conf *conf, struct text json,
                                     struct buffer *error);
/* Parses a text that policy_json() returned earlier. It was valid then, but defaults may have
 * changed since, or another version of sessiond may have written it. Members that are not valid any
 * more are skipped, so that the policy around them holds. NULL only if the text is no JSON object.
 */
struct policy_document *policy_restore(struct text json, struct buffer *error);
/* Does policy_parse() for the present document (NULL: an empty one) after a merge patch (RFC 7396).
 * null takes a member back to its default. It must name a known or a stored member, so that members
 * written by another version can be removed. */
struct policy_document *policy_patch(const struct conf *conf, const struct policy_document *present,
                                     struct text patch, struct buffer *error);
/* Restricts *wanted (NULL: the defaults) to what a key of one tenant may change: members of the
 * platform (PLATFORM in tbl/policy.h) stay as in the present document, set or not. False with a
 * sentence if *wanted has another value for one. With `whole`, *wanted was given as a whole and its
 * silence about the platform is no wish; otherwise it is the patched present document, and absent
 * members were removed. */
bool policy_keep_platform(const struct conf *conf, const struct policy_document *present,
                          bool whole, struct policy_document **wanted, struct buffer *error);
struct policy_document *policy_ref(struct policy_document *document);
void policy_unref(struct policy_document **document);
/* The tenant's settings as compact JSON, as they are stored; "{}" for NULL. */
struct text policy_json(const struct policy_document *document);
/* Its memory in bytes, everything counted. */
size_t policy_bytes(const struct policy_document *document);

/* Appends the effective policy as api.md shows it: one JSON object, every member with its value. */
void policy_print(const struct conf *conf, const struct policy_document *document,
                  struct buffer *out);

/* The policy of a tenant (NULL: the defaults) without regard to roles and device types. Neither
 * locks nor allocates, as the next. */
void policy_of_tenant(const struct conf *conf, const struct policy_document *document,
                      struct policy *ret);
/* The policy in force for a session with these roles (the JSON array of strings of its session
 * object, escaped as json_text() does it, or absent) and this device type (absent: none). Among its
 * roles and device type the shortest time and the smallest number win. A role's max_devices
 * replaces the tenant's; a device type's is max_devices_of_type. Nearly free for a tenant without
 * overrides. */
void policy_of_session(const struct conf *conf, const struct policy_document *document,
                       struct text roles_json, struct text device_type, struct policy *ret);
/* The shortest and the longest idle timeout that a session of the tenant may have, in seconds. */
void policy_idle_range(const struct conf *conf, const struct policy_document *document,
                       int64_t *shortest, int64_t *longest);
/* The longest lifetime of any session of the tenant from its login, in seconds. */
int64_t policy_longest_life(const struct conf *conf, const struct policy_document *document);
