/* When Redis forgets a key. Scripts get the time by this node's clock and how long that is from
 * now. The later of the two holds, by the server's own clock, so a wrong clock of this node makes
 * no key expire too early: neither one ahead, which sees others' sessions as over, nor one behind,
 * which names a past time. */
#pragma once

#include <inttypes.h>
#include <stdio.h>

#include "text.h"

/* A function for scripts: turns an argument made by expiry_print() into milliseconds since 1970. If
 * the user may not ask for TIME, it trusts the node. */
#define EXPIRY_LUA                                                                              \
    "local function expiry(text)\n"                                                             \
    "  local at, life = string.match(text, '^(%d+) (%d+)$')\n"                                  \
    "  local time = redis.pcall('TIME')\n"                                                      \
    "  if time.err then return at end\n"                                                        \
    "  return string.format('%.0f', math.max(tonumber(at), time[1] * 1000 + tonumber(life)))\n" \
    "end\n"

#define EXPIRY_TEXT 48
static inline struct text expiry_print(char out[EXPIRY_TEXT], int64_t at_ms, int64_t now_ms)
{
    int64_t life_ms = at_ms > now_ms ? at_ms - now_ms : 1;
    int length = snprintf(out, EXPIRY_TEXT, "%" PRId64 " %" PRId64, at_ms > 0 ? at_ms : 0, life_ms);
    return (struct text){out, (size_t)length};
}
