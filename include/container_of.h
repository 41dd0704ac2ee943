/* From a member to the struct that it lies in. */
#pragma once

#include <stddef.h>

/* `member` of the struct `type` is what the pointer points to, which the compiler checks. */
#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(1 ? (pointer) : &((type *)NULL)->member) - offsetof(type, member)))
