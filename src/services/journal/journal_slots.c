/* Revocations by number: an array in which removed ones leave gaps. */
#include "journal_slots.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "journal_entry.h"

enum { SHRINK_FROM = 1024 };

void journal_slots_free(struct journal_slots *slots)
{
    free(slots->first);
    *slots = (struct journal_slots){0};
}

size_t journal_slots_at(const struct journal_slots *slots, uint64_t number)
{
    size_t low = 0, high = slots->count;
    if (high > 0 && slots->first[high - 1].number < number)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slots->first[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct journal_entry *journal_slots_find(const struct journal_slots *slots, uint64_t number)
{
    size_t at = journal_slots_at(slots, number);
    bool found = at < slots->count && slots->first[at].number == number;
    return found ? slots->first[at].entry : NULL;
}

static void resize(struct journal_slots *slots, size_t capacity)
{
    slots->first = xrealloc(slots->first, capacity * sizeof(*slots->first));
    slots->capacity = capacity;
}

/* New numbers go to the end; only numbers read from a file may be slightly out of order. */
void journal_slots_insert(struct journal_slots *slots, struct journal_entry *entry)
{
    size_t at = journal_slots_at(slots, entry->number);
    assert(at == slots->count || slots->first[at].number != entry->number);
    if (slots->count == slots->capacity)
        resize(slots, slots->capacity ? 2 * slots->capacity : SHRINK_FROM);
    memmove(slots->first + at + 1, slots->first + at, (slots->count - at) * sizeof(*slots->first));
    slots->first[at] = (struct journal_slot){entry->number, entry};
    slots->count++;
}

void journal_slots_tidy(struct journal_slots *slots, size_t entries)
{
    size_t kept = 0;
    assert(entries <= slots->count);
    if (slots->count - entries <= slots->count / 2)
        return;
    for (size_t i = 0; i < slots->count; i++)
        if (slots->first[i].entry)
            slots->first[kept++] = slots->first[i];
    assert(kept == entries);
    slots->count = kept;
    if (slots->capacity > SHRINK_FROM && kept < slots->capacity / 4)
        resize(slots, slots->capacity / 2);
}
