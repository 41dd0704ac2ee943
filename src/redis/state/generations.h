/* Generations of slots and their proofs: written by the control thread, read by all.
 *
 * A proof has one of GENERATIONS_PLACES positions, by its number. It stays readable until a later
 * one takes the position, which needs the generation to have ended. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slot_map.h"

#define GENERATIONS_PLACES 4096

struct generations {
    _Atomic uint32_t of_slot[SLOT_COUNT]; /* 0: not tracked */
    struct {
        _Atomic uint32_t number; /* 0: being written, or never used */
        _Atomic int64_t proof_ms;
        bool live; /* the control thread's */
    } entries[GENERATIONS_PLACES];
    uint32_t last; /* the control thread's */
};

/* A number never used before, with its first proof. 0 if too many have not ended. */
uint32_t generations_begin(struct generations *generations, int64_t proof_ms);
void generations_prove(struct generations *generations, uint32_t number, int64_t proof_ms);
/* No slot has it any more. */
void generations_end(struct generations *generations, uint32_t number);
void generations_assign(struct generations *generations, unsigned slot, uint32_t number);

/* Any thread. */
uint32_t generations_of(const struct generations *generations, unsigned slot);
int64_t generations_proof(const struct generations *generations, uint32_t number);
