/* Private to the journal: its entries by number. Under the index's lock. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct journal_entry;

/* An entry by its number; numbers grow. NULL for a removed entry. */
struct journal_slot {
    uint64_t number;
    struct journal_entry *entry;
};

struct journal_slots {
    struct journal_slot *first;
    size_t count, capacity;
};

void journal_slots_free(struct journal_slots *slots);
/* The first slot whose number is not below; `count` if there is none. */
size_t journal_slots_at(const struct journal_slots *slots, uint64_t number);
/* NULL if it is not there. */
struct journal_entry *journal_slots_find(const struct journal_slots *slots, uint64_t number);
void journal_slots_insert(struct journal_slots *slots, struct journal_entry *entry);
/* Closes the gaps when they are more than half; `entries` is the number of slots in use. */
void journal_slots_tidy(struct journal_slots *slots, size_t entries);
