/* The part of a session that its answers show: JSON members, written once at login and stored ready
 * to send. This module alone writes and reads their layout (session_json_marks.h):
 *
 *     "tenant":"…","user_id":"…","roles":[…][,"auth_time":…][,"acr":"…"][,"amr":[…]],"device":{…}
 *     [,"attributes":{…}]
 * The members of the authentication stand before the device, since nodes of earlier versions keep
 * what they find there, and take whatever follows the device for attributes.
 * The session id and the time of the login are added when the answer is made, and so is an empty
 * "attributes": every byte here is paid for in Redis, for each session. */
#pragma once

#include "record.h"
#include "session.h"

/* Writes the members of a login. */
void session_json_write(struct buffer *out, const struct login *login);
/* The members with session id, time of the login and empty attributes appended; no braces. In the
 * arena. */
struct text session_json_complete(struct arena *arena, struct text stored,
                                  const uint8_t session_id[SESSION_ID], int64_t began_s);
/* The members with other attributes, a JSON object; in the arena. */
struct text session_json_with_attributes(struct arena *arena, struct text session_json,
                                         struct text attributes);

/* The members with another authentication; in the arena. */
struct text session_json_with_authentication(struct arena *arena, struct text session_json,
                                             const struct authentication *authentication);

/* True if the text is members as session_json_write() writes them: for text that others may have
 * written. Everything below relies on it. */
bool session_json_is_whole(struct text session_json);
/* The value of "roles", a JSON array of strings. */
struct text session_json_roles(struct text session_json);
/* The next string of "roles", unescaped into the arena unless it has no escape; *rest is the array
 * at first, and what is left of it then. False after the last one. */
bool session_json_next_role(struct text *rest, struct arena *arena, struct text *ret);
/* The authentication as its members state it; the class is borrowed. Parses nothing else. */
struct authentication session_json_authentication(struct text session_json);
/* Its methods, a JSON array of strings; absent if there are none. */
struct text session_json_amr(struct text session_json);
/* Its members as they stand there, without a comma before; empty if there are none. */
struct text session_json_authentication_text(struct text session_json);
/* The value of "device", as JSON text. */
struct text session_json_device(struct text session_json);
/* The value of "attributes", "{}" if there are none. */
struct text session_json_attributes(struct text session_json);
/* A member's string (its name at most 8 bytes) out of a device object, unescaped into the arena;
 * absent if it is not there. */
struct text session_json_device_member(struct arena *arena, struct text device, const char *name);
/* Tenant and user id, borrowed and with their escapes; false if the text does not begin with them.
 */
bool session_json_find_names(struct text session_json, struct names *ret);
/* The strings that audit lines show, borrowed and with their escapes; absent if they are not there.
 */
struct session_json_strings {
    struct names names;
    struct text device_id, device_type;
};
void session_json_find_strings(struct text session_json, struct session_json_strings *ret);

/* True if roles, device and attributes together take at most `most` bytes. Else *detail is a
 * sentence with the largest of them, its size and the limit. */
bool session_json_fits(struct arena *arena, struct text session_json, int64_t most,
                       struct text *detail);
