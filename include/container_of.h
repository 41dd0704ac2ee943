/* From a member to the struct that contains it. */
#pragma once

#include <stddef.h>

/* The pointer must point to `member` of the struct `type`; the compiler checks it. */
#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(1 ? (pointer) : &((type *)NULL)->member) - offsetof(type, member)))
