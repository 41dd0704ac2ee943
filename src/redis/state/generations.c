/* Readers take no lock: they read the number before and after the proof, and a position has no
 * number while its proof is replaced. All sequentially consistent; pings are four a second. */
#include "generations.h"

#include <assert.h>

uint32_t generations_begin(struct generations *generations, int64_t proof_ms)
{
    for (unsigned tried = 0; tried < GENERATIONS_PLACES; tried++) {
        uint32_t number = ++generations->last;
        unsigned place = number % GENERATIONS_PLACES;
        if (number == 0 || generations->entries[place].live)
            continue;
        generations->entries[place].live = true;
        atomic_store(&generations->entries[place].number, 0);
        atomic_store(&generations->entries[place].proof_ms, proof_ms);
        atomic_store(&generations->entries[place].number, number);
        return number;
    }
    return 0;
}

void generations_prove(struct generations *generations, uint32_t number, int64_t proof_ms)
{
    unsigned place = number % GENERATIONS_PLACES;
    assert(generations->entries[place].live);
    atomic_store(&generations->entries[place].proof_ms, proof_ms);
}

void generations_end(struct generations *generations, uint32_t number)
{
    assert(generations->entries[number % GENERATIONS_PLACES].live);
    generations->entries[number % GENERATIONS_PLACES].live = false;
}

void generations_assign(struct generations *generations, unsigned slot, uint32_t number)
{
    atomic_store(&generations->of_slot[slot], number);
}

uint32_t generations_of(const struct generations *generations, unsigned slot)
{
    return atomic_load(&generations->of_slot[slot]);
}

int64_t generations_proof(const struct generations *generations, uint32_t number)
{
    unsigned place = number % GENERATIONS_PLACES;
    if (number == 0 || atomic_load(&generations->entries[place].number) != number)
        return INT64_MIN;
    int64_t proof_ms = atomic_load(&generations->entries[place].proof_ms);
    bool same = atomic_load(&generations->entries[place].number) == number;
    return same ? proof_ms : INT64_MIN;
}
