/* The session JSON: members of a session that callers see, written once at login and stored ready
 * to send.
 *
 *   "tenant":"…","user_id":"…","roles":[…],"device":{…}[,"attributes":{…}]
 * Session id, time of the login and an empty "attributes" are added when the response is made,
 * since every stored byte costs memory in Redis for each session. */
#pragma once

#include "session.h"

/* Writes the members of a login. */
void session_json_write(struct buffer *out, const struct login *login);
/* Appends the session id, the time of the login and empty members; no braces. In the arena. */
struct text session_json_complete(struct arena *arena, struct text stored,
                                  const uint8_t session_id[SESSION_ID], int64_t began_s);
/* True if the text has the form that session_json_write() makes; all functions below require it.
 * For text that other programs may have written. */
bool session_json_is_whole(struct text session_json);
/* The value of "roles", a JSON array of strings. */
struct text session_json_roles(struct text session_json);
/* The value of "device", as JSON text. */
struct text session_json_device(struct text session_json);
/* The value of "attributes", "{}" if there is none. */
struct text session_json_attributes(struct text session_json);
/* The session JSON with other attributes, a JSON object; in the arena. */
struct text session_json_with_attributes(struct arena *arena, struct text session_json,
                                         struct text attributes);
/* A member's string from a device object (member name at most 8 bytes), unescaped into the arena;
 * absent if missing. */
struct text session_json_device_member(struct arena *arena, struct text device, const char *name);
/* True if roles, device and attributes together take at most `most` bytes. Otherwise *detail is a
 * sentence with the largest of them, its size and the limit. */
bool session_json_fits(struct arena *arena, struct text session_json, int64_t most,
                       struct text *detail);
