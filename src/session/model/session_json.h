/* The part of a session that callers are shown: JSON members, written once at login and stored
 * ready to send.
 *
 *     "tenant":"…","user_id":"…","roles":[…],"device":{…}[,"attributes":{…}]
 * The session id and the time of the login are added when the answer is made,
 * and so is an empty "attributes": every byte here is paid for in Redis, for each session. */
#pragma once

#include "session.h"

/* Writes the members of a login. */
void session_json_write(struct buffer *out, const struct login *login);
/* Appends the session id, when the session began and what is empty; no braces. In the arena. */
struct text session_json_complete(struct arena *arena, struct text stored,
                                  const uint8_t session_id[SESSION_ID], int64_t began_s);
/* True if the text is members as session_json_write() writes them; everything below relies on that.
 * For what others than us may have written. */
bool session_json_is_whole(struct text session_json);
/* The value of "roles" in shown members, a JSON array of strings. */
struct text session_json_roles(struct text session_json);
/* The value of "device" in shown members, as JSON text. */
struct text session_json_device(struct text session_json);
/* The value of "attributes" in shown members, "{}" if they have none. */
struct text session_json_attributes(struct text session_json);
/* The members with other attributes, a JSON object; in the arena. */
struct text session_json_with_attributes(struct arena *arena, struct text session_json,
                                         struct text attributes);
/* A member's string (its name at most 8 bytes) out of a device object, unescaped into the arena;
 * absent if it is not there. */
struct text session_json_device_member(struct arena *arena, struct text device, const char *name);
/* Whether roles, device and attributes together take at most so many bytes; if not, *detail is a
 * sentence with the largest of them, what they take and what is allowed. */
bool session_json_fits(struct arena *arena, struct text session_json, int64_t most,
                       struct text *detail);
