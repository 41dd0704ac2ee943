/* A line of CLUSTER NODES: id address flags master ping pong epoch link slot slot... A slot is a
 * number, a range, or in brackets one that comes [93-<-id] or goes [77->-id]; those follow the
 * ranges, which include leaving slots. */
#include "slot_claims.h"

#include <string.h>

enum { FLAGS_FIELD = 2, FIRST_SLOT_FIELD = 8 };

static bool is_myself(struct text line)
{
    struct text flags = {0};
    for (int field = 0; field <= FLAGS_FIELD; field++)
        flags = text_take(&line, ' ');
    return memmem(flags.data, flags.length, "myself", 6) != NULL;
}

static void read_range(struct text range, uint8_t claims[SLOT_BYTES])
{
    int64_t first, last;
    bool goes = range.length > 0 && range.data[0] == '[';
    if (goes)
        text_take(&range, '[');
    if (!text_to_int(text_take(&range, '-'), 0, SLOT_COUNT - 1, &first))
        return;
    if (goes || !text_to_int(range, first, SLOT_COUNT - 1, &last))
        last = first;
    for (int64_t slot = first; slot <= last; slot++)
        slot_claims_set(claims, (unsigned)slot, !goes);
}

bool slot_claims_parse(struct text nodes, uint8_t claims[SLOT_BYTES])
{
    while (nodes.length > 0) {
        struct text line = text_take(&nodes, '\n');
        if (!is_myself(line))
            continue;
        memset(claims, 0, SLOT_BYTES);
        for (int field = 0; line.length > 0; field++) {
            struct text word = text_take(&line, ' ');
            if (field >= FIRST_SLOT_FIELD)
                read_range(word, claims);
        }
        return true;
    }
    return false;
}
