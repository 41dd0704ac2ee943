/* The slots that a master says it serves wholly: the map may be old, and a migrating slot has keys
 * on two servers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "redis/state/slot_map.h"
#include "text.h"

/* Bit slot % 8 of byte slot / 8. */
#define SLOT_BYTES (SLOT_COUNT / 8)

/* Reads the answer to CLUSTER NODES: from the line of the answering node ("myself") the slots that
 * it owns, without those that it is handing over. False if there is no such line. */
bool slot_claims_parse(struct text nodes, uint8_t claims[SLOT_BYTES]);

static inline bool slot_claims_has(const uint8_t claims[SLOT_BYTES], unsigned slot)
{
    return claims[slot / 8] >> (slot % 8) & 1;
}

static inline void slot_claims_set(uint8_t claims[SLOT_BYTES], unsigned slot, bool value)
{
    uint8_t bit = (uint8_t)(1u << (slot % 8));
    claims[slot / 8] = (uint8_t)(value ? claims[slot / 8] | bit : claims[slot / 8] & ~bit);
}
