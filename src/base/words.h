/* Eight bytes at a time: finds special bytes in a run of text without looking at each byte. Private
 * to src/base. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define WORD_ONES  UINT64_C(0x0101010101010101)
#define WORD_HIGHS UINT64_C(0x8080808080808080)

static inline uint64_t word_load(const char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

/* Non-zero if a byte of the word is zero. */
static inline uint64_t word_zero(uint64_t word)
{
    return (word - WORD_ONES) & ~word & WORD_HIGHS;
}

/* Non-zero if the byte occurs in the word. */
static inline uint64_t word_has(uint64_t word, unsigned char byte)
{
    return word_zero(word ^ (WORD_ONES * byte));
}

/* True if all eight bytes are printable ASCII, the blank included. */
static inline bool word_is_printable(uint64_t word)
{
    uint64_t below_blank = (word - WORD_ONES * 0x20) & ~word & WORD_HIGHS;
    return ((word & WORD_HIGHS) | below_blank | word_has(word, 0x7f)) == 0;
}
